//! Hugging Face's `config.json` for the supported architectures.
//!
//! | file | holds |
//! |---|---|
//! | `keys.rs` | looking keys up |
//! | `rope.rs` | rotary positions |
//! | `layers.rs` | windowed layers, and those without rotary positions |

mod keys;
mod layers;
mod rope;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use self::keys::{Keys, whole};
use super::architecture::Family;
use super::floats::FloatFormat;
use crate::features::{Activation, Biases, Features, NormPlacement, QueryKeyNorm};
use crate::spec::{MAX_LAYERS, ModelSpec};
use crate::tokeniser::SpecialTokens;

/// The contents of a `config.json`.
#[derive(Debug, PartialEq)]
pub(super) struct Described {
    pub family: Family,
    /// Tied if the file says so, or if it says nothing and the class takes that.
    pub model: ModelSpec,
    /// Whether the file says that the output projection is the embedding.
    pub says_tied: Option<bool>,
}

/// Parses a `config.json`. `context` shortens the model's context. What it says of special tokens
/// is read with the tokeniser.
///
/// # Errors
/// The key that is invalid, or that belongs to an unsupported architecture.
pub(super) fn read(json: &[u8], context: Option<usize>) -> Result<Described, String> {
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let top = Keys(value.as_object().ok_or("it is not a JSON object")?);
    let (family, keys) = family(top)?;
    refuse_what_is_unsupported(top)?;
    let mut model = model(family, keys)?;
    if let Some(context) = context {
        model.context = model.context.min(context);
    }
    let says_tied = match keys.given("tie_word_embeddings") {
        None if top.given("tie_word_embeddings").is_some() => top.flag("tie_word_embeddings")?,
        None => None,
        Some(_) => keys.flag("tie_word_embeddings")?,
    };
    model.tied = says_tied.unwrap_or(family.defaults().tied);
    model.validate().map_err(|error| error.to_string())?;
    Ok(Described {
        family,
        model,
        says_tied,
    })
}

/// The architecture, and the keys of its text model.
fn family(top: Keys<'_>) -> Result<(Family, Keys<'_>), String> {
    let model_type = top.text("model_type")?.unwrap_or_default();
    // Gemma 3 with an image encoder keeps its language model in a part of its own.
    let (model_type, keys) = match (model_type, top.below("text_config")?) {
        ("gemma3", Some(text)) => ("gemma3_text", text),
        _ => (model_type, top),
    };
    let family = Family::of(model_type).ok_or_else(|| {
        let known: Vec<&str> = Family::ALL
            .iter()
            .map(|family| family.model_type())
            .collect();
        format!(
            "model_type is {model_type:?}; supported are {}",
            known.join(", ")
        )
    })?;
    Ok((family, keys))
}

/// Refuses what changes the computation and is not computed here.
fn refuse_what_is_unsupported(keys: Keys<'_>) -> Result<(), String> {
    if let Some(quantised) = keys.below("quantization_config")? {
        let method = quantised.text("quant_method").ok().flatten();
        return Err(format!(
            "the weights are quantised ({}); only F32, F16 and BF16 weights are supported",
            method.unwrap_or("quantization_config")
        ));
    }
    match keys.given("use_bidirectional_attention") {
        None | Some(Value::Bool(false)) => Ok(()),
        Some(other) => Err(format!(
            "use_bidirectional_attention is {other}; only causal attention is supported"
        )),
    }
}

fn model(family: Family, keys: Keys<'_>) -> Result<ModelSpec, String> {
    let defaults = family.defaults();
    let or = |key: &str, default: usize| {
        // These are left out of Gemma 3's published files.
        let needed = || match family {
            Family::Gemma3 if !keys.has(key) => Ok(default),
            _ => keys.needed(key),
        };
        keys.count(key)?.map_or_else(needed, Ok)
    };
    let (layers, width) = (
        keys.needed("num_hidden_layers")?,
        keys.needed("hidden_size")?,
    );
    let heads = or("num_attention_heads", 8)?;
    // Null stands for the number of query heads, a missing key for what the class takes.
    let missing = if keys.has("num_key_value_heads") {
        None
    } else {
        defaults.kv_heads
    };
    let kv_heads = keys
        .count("num_key_value_heads")?
        .or(missing)
        .unwrap_or(heads);
    let missing = if keys.has("head_dim") {
        None
    } else {
        defaults.head_width
    };
    let head_width = keys.count("head_dim")?.or(missing);
    let head_width = head_width.filter(|head| heads.checked_mul(*head) != Some(width));
    let epsilon = match keys.number("rms_norm_eps")? {
        None if keys.has("rms_norm_eps") => return Err("rms_norm_eps is null".to_owned()),
        epsilon => epsilon.unwrap_or(defaults.norm_epsilon),
    };
    let rope = rope::read(family, keys)?;
    // An absurd number of layers must not allocate.
    if layers > MAX_LAYERS {
        return Err(format!(
            "num_hidden_layers is {layers}; at most {} are supported",
            MAX_LAYERS
        ));
    }
    let (window, layer_kinds) = layers::read(family, keys, layers)?;
    let own_head = head_width.unwrap_or(width / heads.max(1));
    let rotary = (own_head as f64 * rope.part) as usize;
    let gemma = GemmaKeys::read(family, keys, own_head)?;
    Ok(ModelSpec {
        vocabulary: or("vocab_size", 262_208)?,
        width,
        layers,
        heads,
        kv_heads,
        feed_forward: keys.needed("intermediate_size")?,
        context: keys
            .count("max_position_embeddings")?
            .unwrap_or(defaults.context),
        tied: defaults.tied,
        rope_theta: rope.theta,
        norm_epsilon_ppb: whole("rms_norm_eps", epsilon, 1e9)?,
        head_width,
        query_key_norm: match family {
            Family::Qwen3 | Family::Gemma3 => QueryKeyNorm::Head,
            Family::Olmo2 | Family::Olmo3 => QueryKeyNorm::Whole,
            _ => QueryKeyNorm::None,
        },
        rope_scaling: rope.scaling,
        features: Features {
            biases: biases(family, keys)?,
            norm_placement: match family {
                Family::Gemma2 | Family::Gemma3 => NormPlacement::Both,
                Family::Olmo2 | Family::Olmo3 => NormPlacement::After,
                _ => NormPlacement::Before,
            },
            activation: activation(family, keys)?,
            scaled_embedding: family.is_gemma(),
            score_divisor: gemma.score_divisor,
            score_cap_ppm: gemma.score_cap_ppm,
            logit_cap_ppm: gemma.logit_cap_ppm,
            window_rope_theta: rope.window_theta.filter(|_| window.is_some()),
            window,
            layer_kinds,
            rotary_width: Some(rotary).filter(|rotary| *rotary != own_head),
            fused_projections: family == Family::Phi3,
        },
    })
}

/// What only Gemma 2 and 3 have.
#[derive(Default)]
struct GemmaKeys {
    score_divisor: Option<u32>,
    score_cap_ppm: Option<u32>,
    logit_cap_ppm: Option<u32>,
}

impl GemmaKeys {
    fn read(family: Family, keys: Keys<'_>, head_width: usize) -> Result<Self, String> {
        if !matches!(family, Family::Gemma2 | Family::Gemma3) {
            return Ok(Self::default());
        }
        let cap = |key: &str, of_class: f64| {
            let missing = (family == Family::Gemma2 && !keys.has(key)).then_some(of_class);
            let cap = keys.number(key)?.or(missing);
            cap.map(|cap| whole(key, cap, 1e6)).transpose()
        };
        let divisor = keys.number("query_pre_attn_scalar")?.unwrap_or(256.0);
        let divisor = whole("query_pre_attn_scalar", divisor, 1.0)?;
        Ok(Self {
            score_divisor: Some(divisor).filter(|divisor| *divisor as usize != head_width),
            score_cap_ppm: cap("attn_logit_softcapping", 50.0)?,
            logit_cap_ppm: cap("final_logit_softcapping", 30.0)?,
        })
    }
}

fn biases(family: Family, keys: Keys<'_>) -> Result<Biases, String> {
    let attention = keys.flag("attention_bias")?.unwrap_or(false);
    let feed_forward = keys.flag("mlp_bias")?.unwrap_or(false);
    let refused = |key: &str| {
        let model_type = family.model_type();
        Err(format!("{key} is true, which {model_type} does not have"))
    };
    let plain = Biases {
        query_key_value: attention,
        output: attention,
        feed_forward: false,
    };
    match family {
        Family::Llama | Family::SmolLm3 => Ok(Biases {
            feed_forward,
            ..plain
        }),
        _ if feed_forward => refused("mlp_bias"),
        Family::Qwen2 => Ok(Biases {
            query_key_value: true,
            ..Biases::default()
        }),
        Family::Mistral | Family::Phi3 if attention => refused("attention_bias"),
        _ => Ok(plain),
    }
}

fn activation(family: Family, keys: Keys<'_>) -> Result<Activation, String> {
    let of_gemma = keys
        .given("hidden_activation")
        .filter(|_| family.is_gemma());
    let key = if of_gemma.is_some() {
        "hidden_activation"
    } else {
        "hidden_act"
    };
    let default = if family.is_gemma() {
        "gelu_pytorch_tanh"
    } else {
        "silu"
    };
    match keys.text(key)?.unwrap_or(default) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        // Gemma's first files say so and mean the approximation.
        "gelu" if family == Family::Gemma => Ok(Activation::GeluTanh),
        other => Err(format!(
            "{key} is {other:?}; supported are \"silu\" and \"gelu_pytorch_tanh\""
        )),
    }
}

/// Tokens as transformers writes them: none, one, or a list.
pub(super) fn token_ids(tokens: &[u32]) -> Value {
    match tokens {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    }
}

/// The architecture that writes a model: the first whose `config.json` describes exactly it.
///
/// # Errors
/// If no architecture has all features of the model.
pub(super) fn family_of(model: &ModelSpec) -> Result<Family, String> {
    let describes = |family: &Family| {
        let config = write(*family, model, FloatFormat::F32, &SpecialTokens::NONE);
        let read = read(config.to_string().as_bytes(), None);
        read.is_ok_and(|read| read.model == *model)
    };
    Family::ALL.into_iter().find(describes).ok_or_else(|| {
        "no architecture that other programs know has all features of this model".to_owned()
    })
}

/// The `config.json` of a model with weights in that format.
pub(super) fn write(
    family: Family,
    model: &ModelSpec,
    format: FloatFormat,
    special: &SpecialTokens,
) -> Value {
    let activation = match model.features.activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    };
    let mut config = json!({
        "architectures": [family.class()],
        "model_type": family.model_type(),
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
        "hidden_act": activation,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": true,
        "torch_dtype": format.torch_name(),
        "bos_token_id": special.bos,
        "eos_token_id": token_ids(&special.eos),
        "pad_token_id": special.pad,
    });
    let keys = rope::write(family, model)
        .into_iter()
        .chain(layers::write(family, model))
        .chain(of_family(family, model));
    if let Value::Object(config) = &mut config {
        config.extend(keys.map(|(key, value)| (key.to_owned(), value)));
    }
    config
}

/// Keys that only some architectures have.
fn of_family(family: Family, model: &ModelSpec) -> Vec<(&'static str, Value)> {
    let features = &model.features;
    let attention_bias = ("attention_bias", json!(features.biases.output));
    let mlp_bias = ("mlp_bias", json!(features.biases.feed_forward));
    let cap = |ppm: Option<u32>| json!(ppm.map(|ppm| f64::from(ppm) / 1e6));
    match family {
        Family::Llama => vec![attention_bias, mlp_bias, ("pretraining_tp", json!(1))],
        Family::SmolLm3 => vec![attention_bias, mlp_bias],
        Family::Qwen3 | Family::Gemma | Family::Olmo2 | Family::Olmo3 => vec![attention_bias],
        Family::Gemma2 | Family::Gemma3 => {
            let head_width = model.head_width() as u32;
            vec![
                attention_bias,
                ("hidden_activation", json!("gelu_pytorch_tanh")),
                (
                    "query_pre_attn_scalar",
                    json!(features.score_divisor.unwrap_or(head_width)),
                ),
                ("attn_logit_softcapping", cap(features.score_cap_ppm)),
                ("final_logit_softcapping", cap(features.logit_cap_ppm)),
            ]
        }
        Family::Phi3 => vec![("original_max_position_embeddings", json!(model.context))],
        Family::Mistral | Family::Qwen2 => Vec::new(),
    }
}
