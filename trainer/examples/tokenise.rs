//! Compares the speed of data preparation with that of the `tokenizers` crate alone on all cores:
//!
//! ```sh
//! cargo run --release -p weal-trainer --example tokenise -- tokenizer.json texts.jsonl
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use weal_trainer::{Prepare, Tokeniser};

/// Documents per call of the crate.
const AT_ONCE: usize = 512;
/// Runs of each; the fastest counts.
const TURNS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(json), Some(texts)) = (args.next(), args.next()) else {
        return Err(
            "expected a tokenizer.json and a file of JSON lines with the key \"text\"".into(),
        );
    };
    let mut best = [f64::INFINITY; 2];
    for _ in 0..TURNS {
        let (seconds, bytes, tokens) = crate_alone(&json, &texts)?;
        best[0] = best[0].min(seconds);
        let rate = |seconds: f64| bytes as f64 / seconds / 1e6;
        println!(
            "tokenizers alone {seconds:7.2} s  {:6.2} MB/s  {tokens} tokens",
            rate(seconds)
        );
        let (seconds, prepared) = prepare(&json, &texts)?;
        best[1] = best[1].min(seconds);
        println!(
            "data prepare     {seconds:7.2} s  {:6.2} MB/s  {prepared} tokens",
            rate(seconds)
        );
    }
    println!("ratio {:.3}", best[0] / best[1]);
    Ok(())
}

/// The crate alone. Reads the texts into memory before timing starts.
fn crate_alone(json: &str, texts: &str) -> Result<(f64, usize, usize), Box<dyn std::error::Error>> {
    let tokeniser = tokenizers::Tokenizer::from_file(json).map_err(|error| error.to_string())?;
    let texts: Vec<String> = std::fs::read_to_string(texts)?
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line)?;
            Ok(record
                .get("text")
                .and_then(|text| text.as_str())
                .unwrap_or_default()
                .to_owned())
        })
        .collect::<Result<_, serde_json::Error>>()?;
    let bytes = texts.iter().map(String::len).sum();
    let mut parts = texts.into_iter();
    let start = Instant::now();
    let mut tokens = 0;
    loop {
        let part: Vec<String> = parts.by_ref().take(AT_ONCE).collect();
        if part.is_empty() {
            return Ok((start.elapsed().as_secs_f64(), bytes, tokens));
        }
        let encodings = tokeniser
            .encode_batch_fast(part, false)
            .map_err(|error| error.to_string())?;
        tokens += encodings
            .iter()
            .map(|encoding| encoding.len())
            .sum::<usize>();
    }
}

/// Data preparation, from the file to shards on disk.
fn prepare(json: &str, texts: &str) -> Result<(f64, u64), Box<dyn std::error::Error>> {
    let out = tempfile::tempdir()?;
    let prepare = Prepare::new(
        vec![texts.to_owned()],
        Tokeniser::from_file(Path::new(json))?,
    );
    let start = Instant::now();
    let summary = prepare.run(&out.path().join("tokens"), &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok((
        start.elapsed().as_secs_f64(),
        summary.index.training.tokens + summary.index.heldout.tokens,
    ))
}
