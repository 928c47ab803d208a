//! A model that a network trained is exported and read by other programs. A network continues from
//! a model that was trained elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
use weal::loaded_model::LoadedModel;
use weal::store::blobs;
use weal::store::weights::to_bytes;
use weal_proto::manifest::Initial;
use weal_tests::commands::{path, weal};
use weal_tests::net::{Net, quick_run};

const MINUTE: Duration = Duration::from_secs(60);
const PROMPT: &str = "Once upon";
const TOKENS: usize = 40;

/// The likeliest text, computed by candle.
fn candle_writes(folder: &Path) -> String {
    let config = fs::read(folder.join("config.json")).expect("a config");
    let config: LlamaConfig =
        serde_json::from_slice(&config).expect("a config that candle understands");
    let config = config.into_config(false);
    let bytes = fs::read(folder.join("model.safetensors")).expect("weights");
    let variables = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu)
        .expect("safetensors");
    let model = Llama::load(variables, &config).expect("a Llama");
    let mut text: Vec<u32> = PROMPT.bytes().map(u32::from).collect();
    for _ in 0..TOKENS {
        let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu).expect("a cache");
        let input = Tensor::new(text.as_slice(), &Device::Cpu)
            .and_then(|t| t.unsqueeze(0))
            .expect("tokens");
        let scores = model
            .forward(&input, 0, &mut cache)
            .and_then(|scores| scores.flatten_all())
            .expect("scores");
        let scores: Vec<f32> = scores.to_vec1().expect("numbers");
        let best = (0..scores.len())
            .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
            .expect("a token");
        text.push(best as u32);
    }
    String::from_utf8_lossy(&text.iter().map(|token| *token as u8).collect::<Vec<_>>()).into_owned()
}

#[test]
fn a_trained_model_generates_the_same_text_everywhere_and_a_network_continues_from_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (model, file) = (dir.path().join("model"), dir.path().join("model.gguf"));
    let (model_arg, file_arg) = (path(&model), path(&file));
    {
        let net = Net::start(2, quick_run());
        net.wait_for_rounds(2, 2 * MINUTE);
        // The node keeps training while its newest weights are exported.
        let node = path(net.nodes[0].folder.path()).to_owned();
        assert!(weal(&["export", model_arg, "--dir", &node]).contains("written to"));
        weal(&["export", file_arg, "--type", "q8_0", "--dir", &node]);
    }
    let tokens = TOKENS.to_string();
    let ours = weal(&[
        "generate",
        PROMPT,
        "--model",
        model_arg,
        "--temperature",
        "0",
        "--tokens",
        &tokens,
        "--device",
        "cpu",
    ]);
    assert_eq!(ours, format!("{}\n", candle_writes(&model)));
    assert_eq!(&fs::read(&file).expect("a GGUF file")[..4], b"GGUF");

    // A new run starts from exactly these weights, for founders and for newcomers.
    let mut run = quick_run();
    run.model.checkpoint = Some(model.clone());
    let mut net = Net::start(2, run);
    net.wait_for_rounds(2, 2 * MINUTE);
    let link = net.status(0).expect("a node that answers").run.link;
    let newcomer = net.join(&link);
    net.wait_for("the newcomer has caught up", 2 * MINUTE, |net| {
        net.rounds(newcomer) >= 2
    });
    assert!(net.assert_roots_agree() > 0);
    let Initial::Weights(hash) = net.manifest.initial else {
        panic!("the run starts from random weights")
    };
    let exported = LoadedModel::checkpoint(&model, &mut |_, _| {}).expect("an exported model");
    for node in &net.nodes {
        let fetched =
            fs::read(blobs::path(&node.folder.blobs(), &hash)).expect("the initial weights");
        assert!(fetched == to_bytes(&exported.weights));
    }
}
