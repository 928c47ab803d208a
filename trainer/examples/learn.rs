//! Simulates a run in one process: in each round, several peers train from the same weights on
//! their own samples, and the averaged pseudo-gradients update the weights. Prints the held-out
//! loss and the time of each round, to help choose the settings of a manifest.
//!
//! ```sh
//! cargo run -p weal-trainer --example learn -- text=tinyshakespeare.txt peers=4 rounds=30
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use weal_kernels::{Compression, OuterStep, Rule, apply, decode};
use weal_trainer::{
    Assignment, ComputePlan, Corpus, DeviceChoice, ErrorFormat, InnerSpec, Learner, ModelSpec,
    MomentFormat, OpenDevice, Optimiser, Precision, TextSource, Tokeniser, initial_weights,
};

/// The settings; each can be given on the command line as `name=value`.
struct Settings {
    text: Option<PathBuf>,
    preset: String,
    device: DeviceChoice,
    peers: usize,
    rounds: u64,
    alpha: f32,
    keep: usize,
    decay_ppm: u32,
    rule: Rule,
    /// Windows of the held-out part to measure after each round.
    measured: usize,
    seed: u8,
    /// Stop once the held-out loss is below this, in nats per byte.
    until: f64,
    inner: InnerSpec,
    plan: ComputePlan,
}

impl Settings {
    fn from_arguments() -> Result<Self, Box<dyn std::error::Error>> {
        let mut settings = Self {
            text: None,
            preset: "nano".to_owned(),
            device: DeviceChoice::Cpu,
            peers: 4,
            rounds: 30,
            alpha: 1.3,
            keep: 32,
            decay_ppm: 900_000,
            rule: Rule::RootOfSenders,
            measured: 64,
            seed: 0,
            until: 0.0,
            inner: InnerSpec::default(),
            plan: ComputePlan::default(),
        };
        for argument in std::env::args().skip(1) {
            let (name, value) = argument
                .split_once('=')
                .ok_or("arguments must be name=value")?;
            match name {
                "text" => settings.text = Some(value.into()),
                "preset" => settings.preset = value.to_owned(),
                "device" => settings.device = value.parse()?,
                "peers" => settings.peers = value.parse()?,
                "rounds" => settings.rounds = value.parse()?,
                "alpha" => settings.alpha = value.parse()?,
                "keep" => settings.keep = value.parse()?,
                "decay_ppm" => settings.decay_ppm = value.parse()?,
                "rule" if value == "all" => settings.rule = Rule::MeanOfAll,
                "rule" if value == "root" => settings.rule = Rule::RootOfSenders,
                "rule" if value == "senders" => settings.rule = Rule::MeanOfSenders,
                "measured" => settings.measured = value.parse()?,
                "seed" => settings.seed = value.parse()?,
                "until" => settings.until = value.parse()?,
                "steps" => settings.inner.steps = value.parse()?,
                "batch" => settings.inner.batch = value.parse()?,
                "rate" => settings.inner.learning_rate_ppb = (value.parse::<f64>()? * 1e9) as u32,
                "warmup" => settings.inner.warmup_steps = value.parse()?,
                "rejoin" => settings.inner.rejoin_warmup_steps = value.parse()?,
                "beta2_ppm" => settings.inner.beta2_ppm = value.parse()?,
                "weight_decay_ppm" => settings.inner.weight_decay_ppm = value.parse()?,
                "optimiser" if value == "adamw" => settings.inner.optimiser = Optimiser::AdamW,
                "optimiser" if value == "muon" => {
                    settings.inner.optimiser = Optimiser::Muon {
                        momentum_ppm: 950_000,
                    }
                }
                "precision" => settings.plan.precision = precision(value)?,
                "micro_batch" => settings.plan.micro_batch = Some(value.parse()?),
                "moments" if value == "8bit" => settings.plan.moments = MomentFormat::Bits8,
                "error_feedback" if value == "bf16" => {
                    settings.plan.error_feedback = ErrorFormat::Bf16;
                }
                "clip_ppm" => settings.inner.clip_ppm = value.parse()?,
                _ => return Err(format!("unknown setting {name:?}").into()),
            }
        }
        Ok(settings)
    }
}

fn precision(name: &str) -> Result<Precision, Box<dyn std::error::Error>> {
    let all = [Precision::F32, Precision::F16, Precision::Bf16];
    let found = all.into_iter().find(|kind| kind.to_string() == name);
    found.ok_or_else(|| format!("unknown precision {name:?}").into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::from_arguments()?;
    let source = match &settings.text {
        Some(path) => TextSource::Path(path.clone()),
        None => TextSource::Generated {
            seed: [0; 32],
            bytes: 1 << 20,
        },
    };
    let corpus = Arc::new(Corpus::new(&[source], Tokeniser::Bytes)?);
    let device = OpenDevice::open(settings.device)?;
    let model = ModelSpec::preset(&settings.preset)?;
    println!(
        "{:?} on {}; {:?}",
        settings.preset,
        device.name(),
        settings.inner
    );
    println!("loss floors: {:?}", corpus.floors());
    run(&settings, &model, &corpus, &device)
}

fn run(
    settings: &Settings,
    model: &ModelSpec,
    corpus: &Arc<Corpus>,
    device: &OpenDevice,
) -> Result<(), Box<dyn std::error::Error>> {
    let compression = Compression {
        keep: settings.keep,
        decay_ppm: settings.decay_ppm,
        ..Compression::default()
    };
    let mut theta = initial_weights(model, &[settings.seed; 32])?;
    let mut peers = Vec::new();
    for _ in 0..settings.peers {
        let mut learner = Learner::new(
            model.clone(),
            settings.inner.clone(),
            Arc::clone(corpus),
            device,
        )?;
        learner.set_plan(&settings.plan)?;
        peers.push(learner);
    }
    let layout = model.layout()?;
    let (mut computing, mut bytes) = (0.0, 0);
    for round in 0..settings.rounds {
        let seed = *blake3::hash(&[&[settings.seed], &round.to_le_bytes()[..]].concat()).as_bytes();
        let start = Instant::now();
        let mut contributions = Vec::new();
        let mut loss = 0.0;
        for (number, peer) in peers.iter_mut().enumerate() {
            let samples = u64::from(settings.inner.steps) * u64::from(settings.inner.batch);
            let first = (round * settings.peers as u64 + number as u64) * samples;
            let assignment = Assignment {
                spans: vec![first..first + samples],
                ..Assignment::newcomer(seed, [number as u8; 32])
            };
            let before = round * u64::from(settings.inner.steps);
            let trained = peer.train(&theta, &assignment, before, &mut |_| {
                ControlFlow::Continue(())
            })?;
            loss += f64::from(trained.mean_loss) / settings.peers as f64;
            let body = peer.compress(&theta, &compression)?;
            bytes += body.len();
            contributions.push(decode(&layout, &compression, &body, body.len())?);
        }
        let step = OuterStep {
            contributions: &contributions,
            coefficients_ppm: &vec![1_000_000; contributions.len()],
            alpha: settings.alpha,
            rule: settings.rule,
        };
        apply(&layout, &mut theta, &step)?;
        computing += start.elapsed().as_secs_f64();
        let heldout = peers[0]
            .heldout_loss(&theta, settings.measured)?
            .nats_per_byte;
        println!(
            "round {:3}  {computing:7.2} s  training {loss:.4}  held-out {heldout:.4} nats/byte  {} B per peer and round",
            round + 1,
            bytes / settings.peers / (round as usize + 1),
        );
        if heldout < settings.until {
            break;
        }
    }
    Ok(())
}
