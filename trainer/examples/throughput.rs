//! Measures how many tokens a second a model trains on a device.
//!
//! ```sh
//! cargo run -p weal-trainer --example throughput -- preset=nano device=cpu batch=8 steps=30
//! ```
//!
//! The number of threads is rayon's: set `RAYON_NUM_THREADS`. The same model in PyTorch: `docs/bench/pytorch_llama.py`.

use std::ops::ControlFlow;
use std::sync::Arc;

use weal_trainer::{
    Assignment, Corpus, DeviceChoice, InnerSpec, Learner, ModelSpec, OpenDevice, Source, Tokeniser, initial_weights,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut preset, mut device, mut batch, mut steps) = ("nano".to_owned(), DeviceChoice::Auto, 8, 30);
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("preset", value)) => preset = value.to_owned(),
            Some(("device", value)) => device = value.parse()?,
            Some(("batch", value)) => batch = value.parse()?,
            Some(("steps", value)) => steps = value.parse()?,
            _ => return Err(format!("{argument:?} is not one of preset=, device=, batch=, steps=").into()),
        }
    }
    let model = ModelSpec::preset(&preset)?;
    let bytes = (model.context * 40).max(100_000);
    let corpus = Arc::new(Corpus::new(&[Source::Generated { seed: [0; 32], bytes }], Tokeniser::Bytes)?);
    let device = OpenDevice::open(device)?;
    let theta = initial_weights(&model, &[0; 32])?;
    let inner = InnerSpec { batch, steps, ..InnerSpec::default() };
    let context = model.context;
    let mut learner = Learner::new(model, inner.clone(), corpus, &device)?;
    println!("{preset}, {} parameters, {batch} x {context} tokens a step, {}", theta.len(), device.name());

    // The first steps make buffers, and on a GPU compile kernels and choose among them.
    let mut marks = Vec::new();
    let assignment = Assignment { seed: [0; 32], peer: [0; 32] };
    let trained = learner.train(&theta, &assignment, 0, &mut |progress| {
        marks.push(progress.seconds);
        ControlFlow::Continue(())
    })?;
    let mut step_seconds: Vec<f64> = marks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    step_seconds.sort_by(f64::total_cmp);
    let median = step_seconds.get(step_seconds.len() / 2).copied().unwrap_or(trained.seconds);
    println!(
        "first step {:.1} ms; then median {:.1} ms, fastest {:.1} ms; {:.0} tokens/s; mean loss {:.3} nats a token",
        marks[0] * 1e3,
        median * 1e3,
        step_seconds.first().copied().unwrap_or(median) * 1e3,
        (batch as usize * context) as f64 / median,
        trained.mean_loss,
    );
    Ok(())
}
