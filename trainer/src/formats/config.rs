//! Hugging Face's `config.json` for the supported architectures.

use serde::Deserialize;
use serde_json::{Value, json};

use super::floats::FloatFormat;
use crate::spec::{ModelSpec, RopeScaling};

/// The keys of a `config.json` that matter here.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "silu")]
    hidden_act: String,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    /// Replaces the two keys above in transformers 5.
    rope_parameters: Option<Rope>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    sliding_window: Option<usize>,
    /// Qwen configures a window but mostly disables it.
    use_sliding_window: Option<bool>,
    eos_token_id: Option<TokenIds>,
}

#[derive(Debug, Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<u32>,
    partial_rotary_factor: Option<f64>,
}

/// One token, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TokenIds {
    One(u32),
    Several(Vec<u32>),
}

fn silu() -> String {
    "silu".to_owned()
}

/// The contents of a `config.json`.
#[derive(Debug, PartialEq)]
pub(super) struct Described {
    pub model: ModelSpec,
    /// The end-of-text token; of several, the first.
    pub end_of_text: Option<u32>,
}

/// Parses a `config.json`.
///
/// # Errors
/// The key that is invalid, or that belongs to an unsupported architecture.
pub(super) fn read(json: &[u8]) -> Result<Described, String> {
    let config: Config = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let query_key_norm = match config.model_type.as_str() {
        "llama" | "mistral" => false,
        "qwen3" => true,
        other => {
            return Err(format!(
                "model_type is {other:?}; supported are llama, mistral and qwen3"
            ));
        }
    };
    for (key, is_there) in [
        ("attention_bias", config.attention_bias),
        ("mlp_bias", config.mlp_bias),
    ] {
        if is_there {
            return Err(format!(
                "{key} is true; only projections without biases are supported"
            ));
        }
    }
    if config.hidden_act != "silu" {
        return Err(format!(
            "hidden_act is {:?}; only \"silu\" is supported",
            config.hidden_act
        ));
    }
    let rope = config.rope_parameters.as_ref();
    let rope_theta = rope
        .and_then(|rope| rope.rope_theta)
        .or(config.rope_theta)
        .unwrap_or(10_000.0);
    // A sliding window bounds the context unless it is disabled.
    let window = config
        .sliding_window
        .filter(|_| config.use_sliding_window != Some(false));
    let model = ModelSpec {
        vocabulary: config.vocab_size,
        width: config.hidden_size,
        layers: config.num_hidden_layers,
        heads: config.num_attention_heads,
        kv_heads: config
            .num_key_value_heads
            .unwrap_or(config.num_attention_heads),
        feed_forward: config.intermediate_size,
        context: window.map_or(config.max_position_embeddings, |window| {
            window.min(config.max_position_embeddings)
        }),
        tied: config.tie_word_embeddings,
        rope_theta: whole("rope_theta", rope_theta, 1.0)?,
        norm_epsilon_ppb: whole("rms_norm_eps", config.rms_norm_eps, 1e9)?,
        head_width: config.head_dim.filter(|width| {
            config.num_attention_heads.checked_mul(*width) != Some(config.hidden_size)
        }),
        query_key_norm,
        rope_scaling: rope
            .or(config.rope_scaling.as_ref())
            .map(scaling)
            .transpose()?
            .flatten(),
    };
    let end_of_text = config.eos_token_id.and_then(|ids| match ids {
        TokenIds::One(id) => Some(id),
        TokenIds::Several(ids) => ids.first().copied(),
    });
    model.validate().map_err(|error| error.to_string())?;
    Ok(Described { model, end_of_text })
}

fn scaling(rope: &Rope) -> Result<Option<RopeScaling>, String> {
    if let Some(part) = rope.partial_rotary_factor.filter(|part| *part != 1.0) {
        return Err(format!(
            "partial_rotary_factor is {part}; only 1 is supported"
        ));
    }
    match rope.rope_type.as_deref() {
        None | Some("default") => Ok(None),
        Some("llama3") => {
            let ppm = |key, value: Option<f64>| {
                whole(
                    key,
                    value.ok_or_else(|| format!("rope_scaling has no {key}"))?,
                    1e6,
                )
            };
            Ok(Some(RopeScaling {
                factor_ppm: ppm("factor", rope.factor)?,
                low_frequency_ppm: ppm("low_freq_factor", rope.low_freq_factor)?,
                high_frequency_ppm: ppm("high_freq_factor", rope.high_freq_factor)?,
                original_context: rope
                    .original_max_position_embeddings
                    .ok_or("rope_scaling has no original_max_position_embeddings")?,
            }))
        }
        Some(other) => Err(format!(
            "rope_scaling has the type {other:?}; supported are default and llama3"
        )),
    }
}

/// `value` in units of 1 / `unit`, if it is a whole number of them to nine digits.
fn whole(key: &str, value: f64, unit: f64) -> Result<u32, String> {
    let scaled = (value * unit).round();
    let is_near = (scaled / unit - value).abs() <= value.abs() * 1e-9;
    if is_near && (1.0..=f64::from(u32::MAX)).contains(&scaled) {
        Ok(scaled as u32)
    } else {
        Err(format!(
            "{key} is {value}; it must be a whole number of {:e}",
            1.0 / unit
        ))
    }
}

/// The `config.json` of a model with weights in that format.
pub(super) fn write(model: &ModelSpec, format: FloatFormat, end_of_text: Option<u32>) -> Value {
    let (architecture, model_type) = if model.query_key_norm {
        ("Qwen3ForCausalLM", "qwen3")
    } else {
        ("LlamaForCausalLM", "llama")
    };
    let mut config = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": model.vocabulary,
        "hidden_size": model.width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_width(),
        "intermediate_size": model.feed_forward,
        "max_position_embeddings": model.context,
        "rms_norm_eps": f64::from(model.norm_epsilon_ppb) / 1e9,
        "tie_word_embeddings": model.tied,
        "hidden_act": "silu",
        "rope_theta": f64::from(model.rope_theta),
        "rope_scaling": model.rope_scaling.as_ref().map(scaling_json),
        "attention_bias": false,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": true,
        "torch_dtype": format.torch_name(),
        "bos_token_id": null,
        "eos_token_id": end_of_text,
    });
    let more = if model.query_key_norm {
        json!({
            "use_sliding_window": false,
            "sliding_window": null,
            "max_window_layers": model.layers,
        })
    } else {
        json!({ "mlp_bias": false, "pretraining_tp": 1 })
    };
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

fn scaling_json(scaling: &RopeScaling) -> Value {
    let part = |ppm: u32| f64::from(ppm) / 1e6;
    json!({
        "rope_type": "llama3",
        "factor": part(scaling.factor_ppm),
        "low_freq_factor": part(scaling.low_frequency_ppm),
        "high_freq_factor": part(scaling.high_frequency_ppm),
        "original_max_position_embeddings": scaling.original_context,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published `config.json` of Llama 3.2 1B, without the keys that are not read.
    fn llama() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": false, "mlp_bias": false,
            "eos_token_id": [128001, 128008], "head_dim": 64, "hidden_act": "silu",
            "hidden_size": 2048,
            "intermediate_size": 8192, "max_position_embeddings": 131072, "num_attention_heads": 32,
            "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
            "rope_theta": 500000.0,
            "rope_scaling": { "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3" },
            "tie_word_embeddings": true, "torch_dtype": "bfloat16", "vocab_size": 128256,
        })
    }

    fn described(config: &Value) -> Result<Described, String> {
        read(config.to_string().as_bytes())
    }

    fn changed(key: &str, value: Value) -> Value {
        let mut config = llama();
        config[key] = value;
        config
    }

    #[test]
    fn a_published_config_is_parsed() {
        let Described { model, end_of_text } = described(&llama()).unwrap();
        assert_eq!(
            (model.vocabulary, model.width, model.layers, model.kv_heads),
            (128_256, 2048, 16, 8)
        );
        assert_eq!(
            (model.head_width, model.head_width(), model.tied),
            (None, 64, true)
        );
        assert_eq!(
            (model.rope_theta, model.norm_epsilon_ppb),
            (500_000, 10_000)
        );
        assert_eq!(model.rope_scaling.unwrap().factor_ppm, 32_000_000);
        assert_eq!(end_of_text, Some(128_001));
    }

    #[test]
    fn configs_round_trip() {
        let llama = described(&llama()).unwrap().model;
        let qwen = ModelSpec {
            head_width: Some(80),
            query_key_norm: true,
            rope_scaling: None,
            ..llama.clone()
        };
        for model in [llama, qwen, ModelSpec::preset("1b").unwrap()] {
            let written = write(&model, FloatFormat::Bf16, Some(3));
            assert_eq!(
                described(&written),
                Ok(Described {
                    model,
                    end_of_text: Some(3)
                })
            );
        }
    }

    #[test]
    fn the_rope_keys_of_transformers_5_are_parsed() {
        let mut config = llama();
        let mut rope = config["rope_scaling"].take();
        rope["rope_theta"] = json!(500_000.0);
        config["rope_parameters"] = rope;
        config.as_object_mut().unwrap().remove("rope_theta");
        assert_eq!(described(&config), described(&llama()));
    }

    #[test]
    fn a_sliding_window_bounds_the_context() {
        let mistral = |window: Value| {
            let mut config = changed("sliding_window", window);
            config["model_type"] = json!("mistral");
            described(&config).unwrap().model.context
        };
        assert_eq!(
            (mistral(json!(4096)), mistral(Value::Null)),
            (4096, 131_072)
        );
        let mut qwen = changed("sliding_window", json!(4096));
        qwen["use_sliding_window"] = json!(false);
        assert_eq!(described(&qwen).unwrap().model.context, 131_072);
    }

    #[test]
    fn unsupported_architectures_are_refused_by_name() {
        let cases = [
            ("model_type", json!("gpt2"), "llama, mistral and qwen3"),
            ("attention_bias", json!(true), "without biases"),
            ("mlp_bias", json!(true), "without biases"),
            ("hidden_act", json!("gelu"), "silu"),
            ("rope_theta", json!(10_000.5), "whole number"),
            (
                "rope_scaling",
                json!({ "rope_type": "yarn", "factor": 4.0 }),
                "default and llama3",
            ),
            (
                "rope_scaling",
                json!({ "rope_type": "llama3", "factor": 4.0 }),
                "low_freq_factor",
            ),
            ("num_key_value_heads", json!(5), "kv_heads"),
            ("hidden_size", json!("wide"), "wide"),
        ];
        for (key, value, expected) in cases {
            let why = described(&changed(key, value)).unwrap_err();
            assert!(why.contains(expected), "{key}: {why}");
        }
    }
}
