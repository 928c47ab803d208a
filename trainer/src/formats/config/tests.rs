//! Tests of reading and writing `config.json`.

use super::*;
use crate::features::RopeScaling;

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
    read(config.to_string().as_bytes(), None)
}

fn changed(key: &str, value: Value) -> Value {
    let mut config = llama();
    config[key] = value;
    config
}

#[test]
fn a_published_config_is_parsed() {
    let Described { model, .. } = described(&llama()).unwrap();
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
}

#[test]
fn configs_round_trip() {
    let llama = described(&llama()).unwrap().model;
    let qwen = ModelSpec {
        head_width: Some(80),
        query_key_norm: QueryKeyNorm::Head,
        rope_scaling: None,
        ..llama.clone()
    };
    for (model, family) in [
        (llama, Family::Llama),
        (qwen, Family::Qwen3),
        (ModelSpec::preset("1b").unwrap(), Family::Llama),
    ] {
        assert_eq!(family_of(&model), Ok(family));
        let special = SpecialTokens {
            bos: Some(1),
            eos: vec![3, 4],
            ..SpecialTokens::NONE
        };
        let written = write(family, &model, FloatFormat::Bf16, &special);
        let tokens = ["bos_token_id", "eos_token_id"].map(|key| written[key].clone());
        assert_eq!(tokens, [json!(1), json!([3, 4])]);
        let says_tied = Some(model.tied);
        let expected = Described {
            family,
            model,
            says_tied,
        };
        assert_eq!(described(&written), Ok(expected));
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
fn windows_are_those_of_the_architecture() {
    let of = |model_type: &str, keys: Value| {
        let mut config = llama();
        config["model_type"] = json!(model_type);
        config
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        let model = described(&config).unwrap().model;
        let kinds = model.features.layer_kinds.iter();
        let windowed = kinds.filter(|kind| kind.windowed).count();
        (model.features.window, windowed, model.context)
    };
    let window = json!({ "sliding_window": 4096 });
    assert_eq!(of("mistral", window.clone()), (Some(4096), 16, 131_072));
    assert_eq!(
        of("mistral", json!({ "sliding_window": null })),
        (None, 0, 131_072)
    );
    // What the class takes for a missing key.
    assert_eq!(of("mistral", json!({})), (Some(4096), 16, 131_072));
    // Llama has no windows, whatever its file says; Qwen configures one that it does not use.
    assert_eq!(of("llama", window.clone()), (None, 0, 131_072));
    assert_eq!(of("qwen2", window), (None, 0, 131_072));
    let used = json!({
        "use_sliding_window": true, "sliding_window": 512, "max_window_layers": 10,
    });
    assert_eq!(of("qwen3", used), (Some(512), 6, 131_072));
    let gemma = json!({ "sliding_window_pattern": 3 });
    assert_eq!(of("gemma3_text", gemma), (Some(4096), 11, 131_072));
}

#[test]
fn unsupported_architectures_are_refused_by_name() {
    let cases = [
        ("model_type", json!("gpt2"), "llama, mistral, qwen2"),
        ("attention_bias", json!(null), "attention_bias is null"),
        ("hidden_act", json!("gelu"), "silu"),
        ("hidden_act", json!(null), "hidden_act is null"),
        (
            "num_attention_heads",
            json!(null),
            "num_attention_heads is null",
        ),
        ("rms_norm_eps", json!("small"), "must be a number"),
        (
            "quantization_config",
            json!({ "quant_method": "gptq" }),
            "quantised (gptq)",
        ),
        ("rope_theta", json!(10_000.5), "whole number"),
        (
            "rope_scaling",
            json!({ "rope_type": "dynamic", "factor": 4.0 }),
            "\"dynamic\"; supported are default, linear, llama3 and yarn",
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

#[test]
fn a_scaling_is_found_under_all_its_names_and_in_all_its_places() {
    let expected = described(&llama()).unwrap();
    let scaling = llama()["rope_scaling"].clone();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut config = llama();
        change(&mut config);
        described(&config).unwrap()
    };
    // transformers 4 wrote the type back under both of its names.
    let both = with(&|config| config["rope_scaling"]["type"] = json!("llama3"));
    assert_eq!(both, expected);
    let old_name = with(&|config| {
        let rope = config["rope_scaling"].as_object_mut().unwrap();
        rope.remove("rope_type");
        rope.insert("type".into(), json!("llama3"));
    });
    assert_eq!(old_name, expected);
    let null_beside = with(&|config| config["rope_scaling"]["type"] = json!(null));
    assert_eq!(null_beside, expected);
    // Where both places are filled, transformers takes `rope_scaling`.
    let both_places = with(&|config| {
        config["rope_parameters"] = json!({ "rope_theta": 10_000.0, "rope_type": "default" });
    });
    assert_eq!(both_places, expected);
    let empty = with(&|config| {
        config["rope_parameters"] = scaling.clone();
        config["rope_scaling"] = json!({});
    });
    assert_eq!(empty, expected);
    let none = with(&|config| {
        config["rope_scaling"] = json!({ "type": "default", "rope_type": "default" });
    });
    assert_eq!(none.model.rope_scaling, None);
}

#[test]
fn missing_keys_are_what_the_class_takes() {
    let without = |model_type: &str, keys: &[&str]| {
        let mut config = llama();
        config["model_type"] = json!(model_type);
        for key in keys {
            config.as_object_mut().unwrap().remove(*key);
        }
        described(&config).unwrap().model
    };
    let plain = without(
        "llama",
        &[
            "rms_norm_eps",
            "num_key_value_heads",
            "head_dim",
            "rope_theta",
        ],
    );
    assert_eq!((plain.norm_epsilon_ppb, plain.kv_heads), (1_000, 32));
    assert_eq!((plain.head_width(), plain.rope_theta), (64, 10_000));
    assert_eq!(without("mistral", &["num_key_value_heads"]).kv_heads, 8);
    assert_eq!(without("qwen3", &["head_dim"]).head_width(), 128);
    assert_eq!(without("smollm3", &["rope_theta"]).rope_theta, 2_000_000);
    assert!(without("gemma2", &["tie_word_embeddings"]).tied);
    assert!(!without("llama", &["tie_word_embeddings"]).tied);
    let nulls = described(&changed("num_key_value_heads", json!(null))).unwrap();
    assert_eq!(nulls.model.kv_heads, 32);
    assert_eq!(
        described(&changed("head_dim", json!(null)))
            .unwrap()
            .model
            .head_width(),
        64
    );
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let marked = [b"\xef\xbb\xbf", llama().to_string().as_bytes()].concat();
    assert_eq!(read(&marked, None), described(&llama()));
}

#[test]
fn a_context_is_shortened_before_it_is_checked() {
    let long = changed("max_position_embeddings", json!(1_010_000));
    let why = described(&long).unwrap_err();
    assert!(why.contains("model.context = 1010000"), "{why}");
    let short = read(long.to_string().as_bytes(), Some(4096)).unwrap();
    assert_eq!(short.model.context, 4096);
    let published = changed("max_position_embeddings", json!(262_144));
    assert_eq!(described(&published).unwrap().model.context, 262_144);
}

#[test]
fn gemma_3_with_images_is_read_as_its_language_model() {
    // The published file of Gemma 3 4B leaves out most of what its class takes.
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "eos_token_id": [1, 106],
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10_240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "sliding_window": 1024,
            "rope_scaling": { "factor": 8.0, "rope_type": "linear" },
        },
        "vision_config": { "hidden_size": 1152 },
    });
    let Described { model, .. } = described(&config).unwrap();
    assert_eq!(
        (model.vocabulary, model.heads, model.kv_heads),
        (262_208, 8, 4)
    );
    assert_eq!(
        (model.head_width(), model.context, model.tied),
        (256, 131_072, true)
    );
    assert_eq!(
        (model.rope_theta, model.features.window_rope_theta),
        (1_000_000, Some(10_000))
    );
    assert_eq!(model.rope_scaling, Some(RopeScaling::linear(8_000_000)));
    assert!(!model.layer_kind(5).windowed && model.layer_kind(6).windowed);
}

#[test]
fn a_model_that_no_architecture_describes_is_not_written() {
    let odd = ModelSpec {
        query_key_norm: QueryKeyNorm::Whole,
        ..ModelSpec::preset("nano").unwrap()
    };
    assert!(family_of(&odd).unwrap_err().contains("no architecture"));
}
