//! Models of every architecture, made by transformers: imported, they give the logits, the loss and
//! the text that transformers gives (see `models/make.py`); exported, they are the same again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod report;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file;
use report::report;
use serde::Deserialize;
use serde_json::{Value, json};
use weal_trainer::{
    Checkpoint, Evaluator, Export, FloatFormat, GgufFormat, OpenDevice, Sampling, TextGenerator,
    Tokeniser,
};

/// What transformers computes.
#[derive(Deserialize)]
struct Expected {
    tokens: Vec<u32>,
    /// The logits after the tokens up to and with these positions.
    positions: Vec<usize>,
    logits: Vec<Vec<f32>>,
    /// The mean over the tokens but the first, in nats.
    loss: f64,
    greedy: Vec<u32>,
}

fn models() -> Vec<(String, PathBuf)> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let entries = fs::read_dir(all)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut models: Vec<_> = entries
        .filter(|path| path.join("config.json").exists())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    models.sort();
    assert!(models.len() >= 15, "{models:?}");
    models
}

fn read(folder: &Path) -> Checkpoint {
    Checkpoint::read(folder, None, &mut |_, _| {})
        .unwrap_or_else(|error| panic!("{}", report(&error)))
}

fn generator(checkpoint: &Checkpoint) -> TextGenerator {
    let model = checkpoint.model.clone();
    TextGenerator::new(
        model,
        Tokeniser::Bytes,
        &checkpoint.weights,
        &OpenDevice::cpu(),
    )
    .unwrap()
}

fn loss(checkpoint: &Checkpoint, tokens: &[u32]) -> f64 {
    let text: Vec<u8> = tokens.iter().map(|token| *token as u8).collect();
    let (model, weights) = (checkpoint.model.clone(), &checkpoint.weights);
    let mut evaluator =
        Evaluator::new(model, Tokeniser::Bytes, weights, &OpenDevice::cpu()).unwrap();
    evaluator
        .text(&text, &mut |_, _| {})
        .unwrap()
        .nats_per_token
}

fn write(checkpoint: &Checkpoint, folder: &Path, format: FloatFormat) {
    let export = Export::new(&checkpoint.model, &checkpoint.weights, &Tokeniser::Bytes).unwrap();
    export.write_folder(folder, format, &mut |_, _| {}).unwrap();
}

/// The largest difference, over the largest magnitude.
fn difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    let most = right
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let pairs = left.iter().zip(right);
    pairs.fold(0.0_f32, |worst, (l, r)| worst.max((l - r).abs())) / most
}

#[test]
fn every_architecture_gives_the_logits_and_the_text_of_transformers() {
    let mut failures = Vec::new();
    for (name, folder) in models() {
        let expected = fs::read(folder.join("expected.json")).unwrap();
        let expected: Expected = serde_json::from_slice(&expected).unwrap();
        let checkpoint = read(&folder);
        let mut ours = generator(&checkpoint);
        for (position, logits) in expected.positions.iter().zip(&expected.logits) {
            let found = ours.logits(&expected.tokens[..=*position]).unwrap();
            let off = difference(&found, logits);
            if off > 2e-5 {
                failures.push(format!("{name}, position {position}: off by {off}"));
            }
        }
        // The passes of training compute the same as the decoder.
        let loss = loss(&checkpoint, &expected.tokens);
        if (loss / expected.loss - 1.0).abs() > 1e-5 {
            failures.push(format!("{name}: a loss of {loss}, not {}", expected.loss));
        }
        let mut text = expected.tokens.clone();
        for _ in &expected.greedy {
            let scores = ours.logits(&text).unwrap();
            let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            text.push(best.unwrap() as u32);
        }
        if text[expected.tokens.len()..] != expected.greedy {
            failures.push(format!("{name}: another text"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_architecture_is_exported_as_what_it_was() {
    let kept = std::env::var_os("WEAL_EXPORTED_MODELS").map(PathBuf::from);
    let dir = tempfile::tempdir().unwrap();
    let out = kept.as_deref().unwrap_or(dir.path());
    for (name, folder) in models() {
        let checkpoint = read(&folder);
        let exported = out.join(&name);
        write(&checkpoint, &exported, FloatFormat::Bf16);
        let again = read(&exported);
        assert_eq!(again.model, checkpoint.model, "{name}");
        assert!(
            difference(&again.weights, &checkpoint.weights) < 1e-6,
            "{name}"
        );
        assert_eq!(again.notes, Vec::<String>::new(), "{name}");
        let keys = |folder: &Path| {
            let json = fs::read(folder.join("config.json")).unwrap();
            let config: Value = serde_json::from_slice(&json).unwrap();
            (
                config["architectures"].clone(),
                config["model_type"].clone(),
            )
        };
        assert_eq!(keys(&exported), keys(&folder), "{name}");
    }
}

/// The architecture in a GGUF file, and the names of its tensors.
fn gguf(path: &Path) -> (String, Vec<String>) {
    let mut file = fs::File::open(path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let architecture = content.metadata["general.architecture"]
        .to_string()
        .unwrap();
    let names = content.tensor_infos.keys().cloned().collect();
    (architecture.clone(), names)
}

#[test]
fn gguf_files_are_of_the_architecture_or_refused_by_name() {
    let kept = std::env::var_os("WEAL_EXPORTED_MODELS").map(PathBuf::from);
    let dir = tempfile::tempdir().unwrap();
    let out = kept.as_deref().unwrap_or(dir.path());
    let mut written = 0;
    for (name, folder) in models() {
        let Checkpoint { model, weights, .. } = read(&folder);
        let export = Export::new(&model, &weights, &Tokeniser::Bytes).unwrap();
        let path = out.join(format!("{name}.gguf"));
        let found = export.write_gguf(&path, &name, GgufFormat::F16, &mut |_, _| {});
        let refused = match &*name {
            "llama-yarn" | "llama-yarn-mscale" => "llama has no YaRN with other bounds",
            "mistral" => "llama has no layers like these that see only 7 tokens",
            "qwen2-windowed" => "qwen2 has no layers like these",
            "smollm3" => "smollm3 has no layers without rotary positions but every fourth",
            "gemma2" => "gemma2 has no other divisor of attention scores",
            "gemma3" => "gemma3 has no other divisor of attention scores",
            "olmo3" => "olmo2 has no layers like these that see only 6 tokens",
            "phi3" => "phi3 has no layers like these that see only 7 tokens",
            _ => {
                let why = found.map(drop).map_err(|error| report(&error));
                assert_eq!(why, Ok(()), "{name}");
                let family = name.split('-').next().unwrap();
                let (architecture, names) = gguf(&path);
                assert_eq!(architecture, family);
                let has = |part: &str| names.iter().any(|name| name.contains(part));
                assert_eq!(has("attn_q.bias"), model.features.biases.query_key_value);
                assert_eq!(has("attn_qkv.weight"), model.features.fused_projections);
                assert_eq!(has("post_ffw_norm"), family == "olmo2");
                assert_eq!(has("rope_freqs"), name == "llama-llama3");
                written += 1;
                continue;
            }
        };
        let why = report(&found.unwrap_err());
        assert!(why.contains(refused), "{name}: {why}");
    }
    assert_eq!(written, 9);
}

#[test]
fn gemmas_with_the_layers_of_the_published_ones_become_gguf_files() {
    for (name, period) in [("gemma2", 2), ("gemma3", 6)] {
        let (_dir, folder) = changed(name, |_| {});
        let mut checkpoint = read(&folder);
        let features = &mut checkpoint.model.features;
        features.score_divisor = None;
        for (layer, kind) in features.layer_kinds.iter_mut().enumerate() {
            kind.windowed = layer % period != period - 1;
        }
        let export =
            Export::new(&checkpoint.model, &checkpoint.weights, &Tokeniser::Bytes).unwrap();
        let path = folder.join("model.gguf");
        let done = export.write_gguf(&path, name, GgufFormat::F16, &mut |_, _| {});
        assert_eq!(
            done.map(drop).map_err(|error| report(&error)),
            Ok(()),
            "{name}"
        );
        let (architecture, names) = gguf(&path);
        assert_eq!(architecture, name);
        for part in [
            "blk.1.attn_norm",
            "blk.1.post_attention_norm",
            "blk.1.ffn_norm",
        ] {
            let name = format!("{part}.weight");
            assert!(names.contains(&name), "{name}");
        }
    }
}

/// A copy of a model, changed.
fn changed(name: &str, change: impl FnOnce(&Path)) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/models")
        .join(name);
    for file in ["config.json", "model.safetensors"] {
        fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    change(dir.path());
    let folder = dir.path().to_owned();
    (dir, folder)
}

fn change_config(folder: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(config.as_object_mut().unwrap());
    fs::write(path, config.to_string()).unwrap();
}

/// Rewrites the header of a safetensors file; tensors keep their places.
fn change_header(folder: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(header.as_object_mut().unwrap());
    let header = header.to_string();
    let parts = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &bytes[8 + length..],
    ];
    fs::write(path, parts.concat()).unwrap();
}

fn error(folder: &Path) -> String {
    report(&Checkpoint::read(folder, None, &mut |_, _| {}).unwrap_err())
}

#[test]
fn the_file_decides_whether_embeddings_are_tied() {
    // Untied, but said to be tied: its own projection is used, and that is told.
    let untied = read(&changed("llama-linear", |_| {}).1);
    assert!(!untied.model.tied && untied.notes.is_empty());
    let (_dir, folder) = changed("llama-linear", |folder| {
        change_config(folder, |config| config["tie_word_embeddings"] = json!(true));
    });
    let told = read(&folder);
    assert!(!told.model.tied);
    assert_eq!(told.weights, untied.weights);
    assert!(
        told.notes[0].contains("lm_head.weight has values of its own"),
        "{:?}",
        told.notes
    );

    // Tied, without a word in the file: taken as tied, and that is told.
    let tied = read(&changed("llama", |_| {}).1);
    assert!(tied.model.tied && tied.notes.is_empty());
    let (_dir, folder) = changed("llama", |folder| {
        change_config(folder, |config| drop(config.remove("tie_word_embeddings")));
    });
    let guessed = read(&folder);
    assert_eq!(
        (guessed.model.tied, &guessed.weights),
        (true, &tied.weights)
    );
    assert!(
        guessed.notes[0].contains("taken as tied"),
        "{:?}",
        guessed.notes
    );

    // Said to be untied, without a projection.
    let (_dir, folder) = changed("llama", |folder| {
        change_config(folder, |config| {
            config["tie_word_embeddings"] = json!(false)
        });
    });
    let why = error(&folder);
    assert!(why.contains("output projection, is missing") && why.contains("tie_word_embeddings"));
}

#[test]
fn a_projection_that_repeats_the_embedding_is_tied() {
    let (_dir, folder) = changed("llama", |folder| {
        let export = read(folder);
        let untied = weal_trainer::ModelSpec {
            tied: false,
            ..export.model.clone()
        };
        let embedding = export.model.vocabulary * export.model.width;
        let weights = [&export.weights[..], &export.weights[..embedding]].concat();
        let out = folder.join("out");
        let checkpoint = Checkpoint {
            model: untied,
            weights,
            ..export
        };
        write(&checkpoint, &out, FloatFormat::F32);
        change_config(&out, |config| config["tie_word_embeddings"] = json!(true));
    });
    let checkpoint = read(&folder.join("out"));
    assert!(checkpoint.model.tied && checkpoint.notes.is_empty());
}

#[test]
fn tensors_are_found_under_the_names_that_other_programs_give_them() {
    let plain = read(&changed("gemma3", |_| {}).1);
    for prefix in ["", "language_model.model.", "model.language_model."] {
        let (_dir, folder) = changed("gemma3", |folder| {
            change_header(folder, |header| {
                *header = std::mem::take(header)
                    .into_iter()
                    .map(|(name, place)| match name.strip_prefix("model.") {
                        Some(inner) => (format!("{prefix}{inner}"), place),
                        None => (name, place),
                    })
                    .collect();
            });
        });
        assert_eq!(read(&folder).weights, plain.weights, "{prefix}");
    }
}

#[test]
fn what_is_no_model_is_said_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let says = |folder: &Path, expected: &[&str]| {
        let why = error(folder);
        for part in expected {
            assert!(why.contains(part), "{part:?} is not in: {why}");
        }
    };
    fs::write(path("model.gguf"), b"GGUF").unwrap();
    says(
        &path("model.gguf"),
        &["model.gguf", "GGUF file", "Hugging Face folder"],
    );
    fs::write(path("weights.bin"), b"x").unwrap();
    says(&path("weights.bin"), &["it is a file", "config.json"]);
    says(
        Path::new("meta-llama/Llama-3.2-1B"),
        &["no such folder", "hf download"],
    );
    fs::create_dir_all(path("models--a--b/snapshots/0123")).unwrap();
    says(&path("models--a--b"), &["cache", "snapshots"]);

    let (_dir, folder) = changed("llama", |folder| {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
        fs::write(folder.join("model.safetensors"), pointer).unwrap();
    });
    says(&folder, &["model.safetensors", "Git LFS", "git lfs pull"]);
    let (_dir, folder) = changed("llama", |folder| {
        let json = fs::read_to_string(folder.join("config.json")).unwrap();
        fs::write(folder.join("config.json"), format!("\u{feff}{json}")).unwrap();
    });
    assert!(read(&folder).model.tied);
}

#[test]
fn generation_keeps_to_the_window() {
    // Beyond its window, a model of windowed layers alone forgets what it read first.
    let (_dir, folder) = changed("mistral", |_| {});
    let checkpoint = read(&folder);
    let mut ours = generator(&checkpoint);
    let sampling = Sampling {
        max_tokens: 30,
        temperature: 0.0,
        ..Sampling::default()
    };
    let text = ours
        .generate("abcdefghijklmnop", &sampling, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
    let mut again = Vec::from("abcdefghijklmnop")
        .into_iter()
        .map(u32::from)
        .collect::<Vec<_>>();
    for token in &text.tokens {
        let scores = ours.logits(&again).unwrap();
        let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        assert_eq!(best, Some(*token as usize));
        again.push(*token);
    }
}
