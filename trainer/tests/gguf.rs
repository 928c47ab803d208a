//! GGUF files in every format, read by candle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use candle_core::quantized::{GgmlDType, gguf_file};
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama;
use serde_json::json;
use weal_trainer::{
    Export, GgufFormat, GgufSummary, ModelSpec, OpenDevice, SpecialTokens, TextGenerator,
    Tokeniser, TokeniserSettings, initial_weights,
};

/// A model whose rows hold whole super-blocks, but for those of the down projections.
fn model() -> ModelSpec {
    ModelSpec {
        width: 256,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        feed_forward: 288,
        context: 64,
        tied: false,
        ..ModelSpec::preset("nano").unwrap()
    }
}

fn written(path: &Path, format: GgufFormat) -> (Vec<f32>, GgufSummary) {
    let model = model();
    let weights = initial_weights(&model, &[9; 32]).unwrap();
    let export = Export::new(&model, &weights, &Tokeniser::Bytes).unwrap();
    let summary = export
        .write_gguf(path, "a test", format, &mut |_, _| {})
        .unwrap();
    (weights, summary)
}

/// The kind of each matrix, by its name without the layer.
fn kinds(content: &gguf_file::Content) -> BTreeMap<String, GgmlDType> {
    let matrices = content
        .tensor_infos
        .iter()
        .filter(|(_, info)| info.shape.dims().len() == 2);
    matrices
        .filter(|(name, _)| !name.starts_with("blk.0.") && !name.starts_with("blk.2."))
        .map(|(name, info)| (name.replace("blk.1.", ""), info.ggml_dtype))
        .collect()
}

#[test]
fn every_format_is_read_by_candle_and_scores_alike() {
    let tokens: Vec<u32> = b"It was the best"
        .iter()
        .map(|byte| u32::from(*byte))
        .collect();
    let mut before = 0.0_f32;
    for (format, file_type, bits, most) in [
        (GgufFormat::F16, 1, 16.0..16.2, 2e-3),
        (GgufFormat::Bf16, 32, 16.0..16.2, 1e-2),
        (GgufFormat::Q8_0, 7, 8.5..8.7, 2e-2),
        (GgufFormat::Q6K, 18, 6.5..7.2, 5e-2),
        (GgufFormat::Q5K, 17, 5.5..6.6, 1e-1),
        (GgufFormat::Q4K, 15, 4.5..6.0, 2e-1),
        (GgufFormat::Q4_0, 2, 4.5..6.0, 3e-1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        let (weights, summary) = written(&path, format);
        assert!(bits.contains(&summary.bits), "{format}: {summary:?}");
        let mut file = File::open(&path).unwrap();
        let content = gguf_file::Content::read(&mut file).unwrap();
        let found = content.metadata["general.file_type"].to_u32().unwrap();
        assert_eq!(found, file_type, "{format}");
        let mut theirs =
            quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
        let input = Tensor::new(&tokens[..], &Device::Cpu).unwrap();
        let theirs = theirs.forward(&input.unsqueeze(0).unwrap(), 0).unwrap();
        let theirs: Vec<f32> = theirs.flatten_all().unwrap().to_vec1().unwrap();
        let ours = TextGenerator::new(model(), Tokeniser::Bytes, &weights, &OpenDevice::cpu())
            .unwrap()
            .logits(&tokens)
            .unwrap();
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
        let error = norm(&mut ours.iter().zip(&theirs).map(|(o, t)| o - t))
            / norm(&mut ours.iter().copied());
        println!("{format}: {:.2} bits, error {error:.4}", summary.bits);
        assert!(error < most, "{format}: {error}");
        if matches!(format, GgufFormat::Q6K | GgufFormat::Q5K | GgufFormat::Q4K) {
            assert!(error > before, "{format}: {error}, with more bits {before}");
            before = error;
        }
    }
}

#[test]
fn a_mix_has_more_bits_where_they_count_and_falls_back_where_rows_are_odd() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let (_, summary) = written(&path, GgufFormat::Q4K);
    // The down projections of three layers.
    assert_eq!(summary.fell_back, 3);
    let content = gguf_file::Content::read(&mut File::open(&path).unwrap()).unwrap();
    let kinds = kinds(&content);
    for (name, kind) in [
        ("token_embd.weight", GgmlDType::Q4K),
        ("output.weight", GgmlDType::Q6K),
        ("attn_q.weight", GgmlDType::Q4K),
        ("ffn_down.weight", GgmlDType::Q8_0),
        ("ffn_up.weight", GgmlDType::Q4K),
    ] {
        assert_eq!(kinds[name], kind, "{name}");
    }
    let value = |layer: usize| {
        let info = &content.tensor_infos[&format!("blk.{layer}.attn_v.weight")];
        info.ggml_dtype
    };
    assert_eq!(
        [value(0), value(1), value(2)],
        [GgmlDType::Q4K, GgmlDType::Q4K, GgmlDType::Q6K]
    );
}

/// A tokeniser with an end that its file does not call special.
fn instruct() -> Tokeniser {
    let added = |id: u32, content: &str, special: bool| {
        json!({ "id": id, "content": content, "special": special, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false })
    };
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true });
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "added_tokens": [
            added(1, "<s>", true), added(2, "</s>", true), added(3, "<|turn|>", false),
            added(4, "<pad>", true), added(5, "<|message|>", true),
        ],
        "model": { "type": "BPE", "vocab": { "a": 0 }, "merges": [] },
    });
    let special = SpecialTokens {
        bos: Some(1),
        eos: vec![2, 3, 5],
        pad: Some(4),
        unk: None,
        adds_bos: true,
        adds_eos: false,
    };
    let settings = json!({ "chat_templates": {
        "default": "{{ messages }}", "tools": "{{ tools }}",
    } });
    let settings = TokeniserSettings::from_bytes(settings.to_string().as_bytes()).unwrap();
    Tokeniser::from_bytes(file.to_string().as_bytes())
        .unwrap()
        .with_special(special)
        .with_settings(settings)
}

fn content_of(tokeniser: &Tokeniser) -> gguf_file::Content {
    let model = model();
    let weights = initial_weights(&model, &[9; 32]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    Export::new(&model, &weights, tokeniser)
        .unwrap()
        .write_gguf(&path, "a test", GgufFormat::Q8_0, &mut |_, _| {})
        .unwrap();
    gguf_file::Content::read(&mut File::open(&path).unwrap()).unwrap()
}

#[test]
fn special_tokens_and_chat_templates_are_inside() {
    let content = content_of(&instruct());
    let token = |key: &str| {
        let value = content
            .metadata
            .get(&format!("tokenizer.ggml.{key}_token_id"));
        value.map(|value| value.to_u32().unwrap())
    };
    assert_eq!(token("bos"), Some(1));
    assert_eq!(token("eos"), Some(2));
    assert_eq!(token("eot"), Some(3));
    assert_eq!(token("eom"), Some(5));
    assert_eq!(token("padding"), Some(4));
    let flag = |key: &str| content.metadata[key].to_bool().unwrap();
    assert!(flag("tokenizer.ggml.add_bos_token") && !flag("tokenizer.ggml.add_eos_token"));
    let kinds = content.metadata["tokenizer.ggml.token_type"]
        .to_vec()
        .unwrap();
    let kinds: Vec<i32> = kinds[..6]
        .iter()
        .map(|kind| kind.to_i32().unwrap())
        .collect();
    assert_eq!(kinds, [1, 3, 3, 3, 3, 3]);
    let text = |key: &str| content.metadata[key].to_string().unwrap().as_str();
    assert_eq!(text("tokenizer.chat_template"), "{{ messages }}");
    assert_eq!(text("tokenizer.chat_template.tools"), "{{ tools }}");
    let names = content.metadata["tokenizer.chat_templates"]
        .to_vec()
        .unwrap();
    assert_eq!(names[0].to_string().unwrap(), "tools");
}

#[test]
fn without_an_end_llama_cpp_takes_no_letter_for_one() {
    let content = content_of(&Tokeniser::Bytes);
    let token = |key: &str| content.metadata[key].to_u32().unwrap();
    assert_eq!(token("tokenizer.ggml.eos_token_id"), 255);
    assert_eq!(token("tokenizer.ggml.bos_token_id"), 255);
    assert!(!content.metadata.contains_key("tokenizer.chat_template"));
}
