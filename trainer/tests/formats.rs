//! Exported models against candle: the same scores, the same text. And how an import names what is
//! wrong with a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod report;

use std::fs::{self, File};
use std::path::Path;

use candle_core::quantized::{GgmlDType, gguf_file};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, mistral, quantized_llama, qwen3};
use report::report;
use serde_json::{Value, json};
use weal_trainer::{
    Checkpoint, Export, FloatFormat, GgufFormat, ModelSpec, OpenDevice, QueryKeyNorm, RopeScaling,
    RopeScalingKind, Sampling, SpecialTokens, TextGenerator, Tokeniser, initial_weights,
};

const PROMPT: &[u8] = b"It was the best of times";
const GENERATED: usize = 24;

/// A model whose rows hold whole blocks of 32 values.
fn llama() -> ModelSpec {
    ModelSpec {
        width: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        feed_forward: 96,
        context: 64,
        ..ModelSpec::preset("nano").unwrap()
    }
}

fn untied() -> ModelSpec {
    ModelSpec {
        tied: false,
        ..llama()
    }
}

/// Heads with a total width of 96 in a residual stream of 64.
fn mistral() -> ModelSpec {
    ModelSpec {
        head_width: Some(24),
        ..untied()
    }
}

fn qwen() -> ModelSpec {
    ModelSpec {
        head_width: Some(24),
        query_key_norm: QueryKeyNorm::Head,
        rope_theta: 1_000_000,
        norm_epsilon_ppb: 1_000,
        ..llama()
    }
}

/// A model with rotary frequencies low enough to be scaled within the context.
fn scaled() -> ModelSpec {
    let rope_scaling = RopeScaling {
        kind: RopeScalingKind::Llama3,
        low_frequency_ppm: 1_000_000,
        high_frequency_ppm: 4_000_000,
        original_context: 32,
        ..RopeScaling::linear(8_000_000)
    };
    ModelSpec {
        rope_scaling: Some(rope_scaling),
        ..llama()
    }
}

/// Random weights whose gains are not one, so that a gain in the wrong place shows.
fn weights(model: &ModelSpec) -> Vec<f32> {
    let mut weights = initial_weights(model, &[9; 32]).unwrap();
    for (index, weight) in weights.iter_mut().enumerate() {
        if *weight == 1.0 {
            *weight = 0.7 + (index % 11) as f32 * 0.06;
        }
    }
    weights
}

fn write(model: &ModelSpec, weights: &[f32], folder: &Path, format: FloatFormat) {
    let export = Export::new(model, weights, &Tokeniser::Bytes).unwrap();
    export.write_folder(folder, format, &mut |_, _| {}).unwrap();
}

fn read(folder: &Path) -> Result<Checkpoint, String> {
    Checkpoint::read(folder, None, &mut |_, _| {}).map_err(|error| report(&error))
}

/// The scores of the next token: ours, or candle's.
type Scores<'a> = Box<dyn FnMut(&[u32]) -> Vec<f32> + 'a>;

fn ours(model: &ModelSpec, weights: &[f32]) -> TextGenerator {
    TextGenerator::new(model.clone(), Tokeniser::Bytes, weights, &OpenDevice::cpu()).unwrap()
}

fn input(tokens: &[u32]) -> Tensor {
    Tensor::new(tokens, &Device::Cpu)
        .unwrap()
        .unsqueeze(0)
        .unwrap()
}

fn numbers(logits: Tensor) -> Vec<f32> {
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

/// Loads the folder in candle; each architecture has its own model.
fn candle(folder: &Path, by: &str) -> Scores<'static> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let variables = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap();
    let config = fs::read(folder.join("config.json")).unwrap();
    match by {
        "llama" => {
            let config: llama::LlamaConfig = serde_json::from_slice(&config).unwrap();
            let config = config.into_config(false);
            let model = llama::Llama::load(variables, &config).unwrap();
            Box::new(move |tokens| {
                let mut cache =
                    llama::Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
                numbers(model.forward(&input(tokens), 0, &mut cache).unwrap())
            })
        }
        "mistral" => {
            let config: mistral::Config = serde_json::from_slice(&config).unwrap();
            let mut model = mistral::Model::new(&config, variables).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                numbers(model.forward(&input(tokens), 0).unwrap())
            })
        }
        "qwen3" => {
            let config: qwen3::Config = serde_json::from_slice(&config).unwrap();
            let mut model = qwen3::ModelForCausalLM::new(&config, variables).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                numbers(model.forward(&input(tokens), 0).unwrap())
            })
        }
        other => panic!("no model {other}"),
    }
}

fn prompt() -> Vec<u32> {
    PROMPT.iter().map(|byte| u32::from(*byte)).collect()
}

/// The largest difference, over the largest magnitude.
fn difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    let most = right
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    left.iter()
        .zip(right)
        .fold(0.0_f32, |worst, (l, r)| worst.max((l - r).abs()))
        / most
}

fn greedy(scores: &mut Scores) -> Vec<u32> {
    let mut tokens = prompt();
    for _ in 0..GENERATED {
        let next = scores(&tokens);
        let best = (0..next.len())
            .max_by(|a, b| next[*a].total_cmp(&next[*b]))
            .unwrap();
        tokens.push(best as u32);
    }
    tokens.split_off(PROMPT.len())
}

fn our_greedy(model: &ModelSpec, weights: &[f32]) -> Vec<u32> {
    let sampling = Sampling {
        max_tokens: GENERATED,
        temperature: 0.0,
        ..Sampling::default()
    };
    let prompt = std::str::from_utf8(PROMPT).unwrap();
    ours(model, weights)
        .generate(prompt, &sampling, &mut |_| {
            std::ops::ControlFlow::Continue(())
        })
        .unwrap()
        .tokens
}

#[test]
fn an_exported_model_gives_the_same_scores_and_text_in_candle() {
    let cases = [
        (llama(), "llama"),
        (untied(), "llama"),
        (scaled(), "llama"),
        (mistral(), "mistral"),
        (qwen(), "qwen3"),
    ];
    for (model, by) in cases {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("model");
        let weights = weights(&model);
        write(&model, &weights, &folder, FloatFormat::F32);
        let mut theirs = candle(&folder, by);
        for length in [1, 7, PROMPT.len()] {
            let tokens = &prompt()[..length];
            let difference = difference(
                &ours(&model, &weights).logits(tokens).unwrap(),
                &theirs(tokens),
            );
            assert!(difference < 1e-4, "{by}, {length} tokens: {difference}");
        }
        assert_eq!(our_greedy(&model, &weights), greedy(&mut theirs), "{by}");
    }
}

#[test]
fn exported_folders_are_imported_again() {
    for model in [llama(), untied(), mistral(), qwen(), scaled()] {
        let weights = weights(&model);
        for format in [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("model");
            write(&model, &weights, &folder, format);
            let read = read(&folder).unwrap();
            assert_eq!(read.model, model);
            let precision = match format {
                FloatFormat::F32 => 0.0,
                FloatFormat::F16 => 5e-4,
                FloatFormat::Bf16 => 4e-3,
            };
            let worst = weights
                .iter()
                .zip(&read.weights)
                .fold(0.0_f32, |worst, (w, r)| worst.max((w - r).abs()));
            let most = weights.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
            assert!(worst <= most * precision, "{format}: {worst}");
            assert_eq!(read.tokeniser.unwrap().vocabulary(), 256);
        }
    }
}

#[test]
fn a_gguf_file_gives_the_same_text_in_candle() {
    let model = untied();
    // Values that f16 represents exactly.
    let weights: Vec<f32> = weights(&model)
        .iter()
        .map(|w| half::f16::from_f32(*w).to_f32())
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let folder = dir.path().join("folder");
    let bytes = Export::new(&model, &weights, &Tokeniser::Bytes).unwrap();
    bytes
        .write_folder(&folder, FloatFormat::F16, &mut |_, _| {})
        .unwrap();
    let special = SpecialTokens {
        eos: vec![10],
        ..SpecialTokens::NONE
    };
    let tokeniser = Tokeniser::from_file(&folder.join("tokenizer.json")).unwrap();
    let tokeniser = tokeniser.with_special(special);
    let export = Export::new(&model, &weights, &tokeniser).unwrap();
    export
        .write_gguf(&path, "a test", GgufFormat::F16, &mut |_, _| {})
        .unwrap();

    let mut file = File::open(&path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    assert_eq!(
        content.metadata["general.name"].to_string().unwrap(),
        "a test"
    );
    assert_eq!(
        content.metadata["llama.context_length"].to_u32().unwrap(),
        64
    );
    assert_eq!(
        content.metadata["tokenizer.ggml.eos_token_id"]
            .to_u32()
            .unwrap(),
        10
    );
    let tokens = content.metadata["tokenizer.ggml.tokens"].to_vec().unwrap();
    assert_eq!(
        (tokens.len(), tokens[97].to_string().unwrap().as_str()),
        (256, "a")
    );
    let mut theirs =
        quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let mut scores: Scores = Box::new(move |tokens| {
        theirs.clear_kv_cache();
        numbers(theirs.forward(&input(tokens), 0).unwrap())
    });
    let difference = difference(
        &ours(&model, &weights).logits(&prompt()).unwrap(),
        &scores(&prompt()),
    );
    assert!(difference < 1e-3, "{difference}");
    assert_eq!(our_greedy(&model, &weights), greedy(&mut scores));
}

#[test]
fn quantised_weights_match_candle() {
    let (model, dir) = (untied(), tempfile::tempdir().unwrap());
    let weights = weights(&model);
    let layout = model.layout().unwrap();
    let ours = |name: &str| {
        let index = layout
            .tensors()
            .iter()
            .position(|tensor| tensor.name == name)
            .unwrap();
        &weights[layout.range(index)]
    };
    for (format, inner, bits) in [
        (GgufFormat::Q8_0, GgmlDType::Q8_0, 8),
        (GgufFormat::Q4_0, GgmlDType::Q4_0, 4),
    ] {
        let path = dir.path().join(format!("{format}.gguf"));
        let export = Export::new(&model, &weights, &Tokeniser::Bytes).unwrap();
        export
            .write_gguf(&path, "a test", format, &mut |_, _| {})
            .unwrap();
        let mut file = File::open(&path).unwrap();
        let content = gguf_file::Content::read(&mut file).unwrap();
        let expected = [
            (
                "token_embd.weight",
                "model.embed_tokens.weight",
                GgmlDType::Q8_0,
            ),
            (
                "blk.1.ffn_down.weight",
                "model.layers.1.mlp.down_proj.weight",
                inner,
            ),
            (
                "blk.0.attn_v.weight",
                "model.layers.0.self_attn.v_proj.weight",
                inner,
            ),
            (
                "blk.1.attn_norm.weight",
                "model.layers.1.input_layernorm.weight",
                GgmlDType::F32,
            ),
        ];
        for (theirs, name, kind) in expected {
            let tensor = content.tensor(&mut file, theirs, &Device::Cpu).unwrap();
            assert_eq!(tensor.dtype(), kind, "{theirs}");
            let values = numbers(tensor.dequantize(&Device::Cpu).unwrap());
            // Candle's own quantiser produces the same blocks.
            let source = Tensor::from_slice(ours(name), values.len(), &Device::Cpu).unwrap();
            let reference = candle_core::quantized::QTensor::quantize(&source, kind).unwrap();
            assert_eq!(
                values,
                numbers(reference.dequantize(&Device::Cpu).unwrap()),
                "{theirs} in {bits} bits"
            );
        }
    }
}

/// The error of importing a damaged folder.
fn damaged(damage: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    write(&llama(), &weights(&llama()), &folder, FloatFormat::Bf16);
    damage(&folder);
    read(&folder).unwrap_err()
}

fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn an_import_names_what_is_wrong() {
    let says = |why: String, expected: &[&str]| {
        for part in expected {
            assert!(why.contains(part), "{part:?} is not in: {why}");
        }
    };
    let weights_of = |folder: &Path| folder.join("model.safetensors");
    says(
        damaged(|folder| fs::remove_file(folder.join("config.json")).unwrap()),
        &["config.json", "No such file"],
    );
    says(
        damaged(|folder| {
            change_json(&folder.join("config.json"), |config| {
                config["model_type"] = json!("gpt2")
            })
        }),
        &["config.json", "gpt2", "llama, mistral, qwen2"],
    );
    says(
        damaged(|folder| {
            change_json(&folder.join("config.json"), |config| {
                config["intermediate_size"] = json!(97)
            })
        }),
        &[
            "model.safetensors",
            "model.layers.0.mlp.gate_proj.weight",
            "[96, 64]",
            "[97, 64]",
        ],
    );
    says(
        damaged(|folder| {
            change_json(&folder.join("config.json"), |config| {
                config["num_hidden_layers"] = json!(3)
            })
        }),
        &["model.layers.2.self_attn.q_proj.weight is missing"],
    );
    says(
        damaged(|folder| {
            change_json(&folder.join("config.json"), |config| {
                config["num_hidden_layers"] = json!(1)
            })
        }),
        &["model.layers.1.", "not part of LlamaForCausalLM"],
    );
    says(
        damaged(|folder| {
            change_json(&folder.join("config.json"), |config| {
                config["vocab_size"] = json!(100)
            })
        }),
        &["256 tokens", "model.vocabulary = 100"],
    );
    says(
        damaged(|folder| {
            let bytes = fs::read(weights_of(folder)).unwrap();
            fs::write(weights_of(folder), &bytes[..bytes.len() - 2]).unwrap();
        }),
        &["model.safetensors", "promises", "download it again"],
    );
    says(
        damaged(|folder| {
            let mut bytes = fs::read(weights_of(folder)).unwrap();
            bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            fs::write(weights_of(folder), bytes).unwrap();
        }),
        &["model.safetensors", "header", "18446744073709551615"],
    );
    says(
        damaged(|folder| {
            let mut bytes = fs::read(weights_of(folder)).unwrap();
            let end = bytes.len();
            // Makes the last value of the last tensor infinite.
            bytes[end - 2..].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
            fs::write(weights_of(folder), bytes).unwrap();
        }),
        &["not finite", "weight"],
    );
    says(
        damaged(|folder| fs::rename(weights_of(folder), folder.join("pytorch_model.bin")).unwrap()),
        &["model.safetensors", "save_pretrained"],
    );
    says(
        damaged(|folder| {
            let index = json!({ "weight_map": { "model.norm.weight": "model-00001-of-00002.safetensors" } });
            fs::write(
                folder.join("model.safetensors.index.json"),
                index.to_string(),
            )
            .unwrap();
        }),
        &["model-00001-of-00002.safetensors", "missing"],
    );
    says(
        damaged(|folder| {
            let index = json!({ "weight_map": { "model.norm.weight": "../model.safetensors" } });
            fs::write(
                folder.join("model.safetensors.index.json"),
                index.to_string(),
            )
            .unwrap();
        }),
        &["index.json", "no file of this folder"],
    );
    says(
        damaged(|folder| fs::write(folder.join("tokenizer.json"), "{}").unwrap()),
        &["tokenizer.json"],
    );
}

#[test]
fn exporting_weights_too_large_for_f16_leaves_nothing_behind() {
    let (model, dir) = (llama(), tempfile::tempdir().unwrap());
    let mut weights = weights(&model);
    weights[5] = 1e6;
    let export = Export::new(&model, &weights, &Tokeniser::Bytes).unwrap();
    let folder = export
        .write_folder(&dir.path().join("model"), FloatFormat::F16, &mut |_, _| {})
        .unwrap_err();
    let file = export
        .write_gguf(
            &dir.path().join("model.gguf"),
            "x",
            GgufFormat::Q4_0,
            &mut |_, _| {},
        )
        .unwrap_err();
    for (why, name) in [
        (folder.to_string(), "model.embed_tokens.weight"),
        (file.to_string(), "token_embd.weight"),
    ] {
        assert!(why.contains(name) && why.contains("1000000"), "{why}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let bf16 = dir.path().join("bf16.gguf");
    export
        .write_gguf(&bf16, "x", GgufFormat::Bf16, &mut |_, _| {})
        .unwrap();
}
