//! `weal bench`: how fast this machine is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;
use weal_kernels::{Compression, Layout};
use weal_trainer::{
    AGREED_WEIGHTS, ComputePlan, Corpus, ERROR_FEEDBACK, ModelSpec, OpenDevice, PreparedFolder,
    SAVING, TrainLoad, TrainSpeed, Workload,
};

use super::node::set_threads;
use super::open_device;
use crate::bench::{self, CodecSpeed};
use crate::error::{Error, ErrorKind, Result};
use crate::settings::{Auto, Bits, Device, StatesIn};

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Compressing, checking and applying contributions, next to copying memory.
    Codec(CodecArgs),
    /// Training, next to multiplying large matrices.
    Train(TrainArgs),
}

#[derive(Debug, Args)]
struct CodecArgs {
    /// The model: nano, micro, tiny, small, medium or 1b. Needs 16 bytes of memory for each
    /// parameter.
    #[arg(long, default_value = "micro")]
    preset: String,
    /// Contributions that are applied together.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    contributions: u16,
    /// Values in a chunk.
    #[arg(long, default_value_t = Compression::default().chunk)]
    chunk: usize,
    /// Values kept of each chunk.
    #[arg(long, default_value_t = Compression::default().keep)]
    keep: usize,
    /// Threads; 0 for all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// A GPU to measure as well: auto, gpu, gpu:<number>.
    #[arg(long, env = "WEAL_DEVICE", default_value = "auto")]
    device: Device,
    /// Prints JSON, in bytes and values a second.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// The model: nano, micro, tiny, small, medium or 1b.
    #[arg(long, default_value = "nano")]
    preset: String,
    /// Sequences of a step.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Steps that are timed.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    /// A folder that `weal data prepare` made, to train on; without it, the built-in generator's
    /// text.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Sequences of a step that are computed at once; 0 for all.
    #[arg(long, default_value_t = 0)]
    micro_batch: usize,
    /// Compute what gradients need again instead of keeping it.
    #[arg(long)]
    recompute: bool,
    /// Where weights in f32, sums of gradients and moments lie: device or host (the machine's
    /// memory).
    #[arg(long, default_value = "device")]
    states: StatesIn,
    /// What matrices are multiplied in: auto, f32 or bf16.
    #[arg(long, default_value = "auto")]
    precision: Auto<Bits>,
    /// Threads; 0 for all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// The device: auto, cpu, gpu or gpu:<number>.
    #[arg(long, env = "WEAL_DEVICE", default_value = "auto")]
    device: Device,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What programs are told of a device that trains.
#[derive(Serialize)]
struct Trained {
    preset: String,
    parameters: usize,
    device: String,
    batch: u32,
    context: usize,
    tokens_per_second: f64,
    flops_utilisation: f64,
    peak_memory_bytes: Option<u64>,
    /// What was predicted, of the memory that was measured.
    predicted_memory_bytes: u64,
    step_seconds: f64,
    first_step_seconds: f64,
    flops_per_token: f64,
    matrix_flops_per_second: f64,
    data_wait_seconds: f64,
    loader_tokens_per_second: f64,
}

impl TrainArgs {
    fn run(self) -> Result<ExitCode> {
        set_threads(self.threads)?;
        let mut model = ModelSpec::preset(&self.preset)
            .map_err(|error| Error::usage(format!("--preset {}: {error}", self.preset)))?;
        let corpus = self.data.as_deref().map(open_corpus).transpose()?;
        if let Some(corpus) = &corpus {
            model = model.with_vocabulary(corpus.tokeniser().vocabulary());
        }
        let failed = |error: weal_trainer::Error| Error::of(ErrorKind::Device, error);
        let device = open_device(self.device)?;
        let load = TrainLoad {
            batch: self.batch,
            steps: self.steps,
            plan: ComputePlan {
                micro_batch: Some(self.micro_batch).filter(|sequences| *sequences > 0),
                recompute: self.recompute,
                states: self.states.into(),
                precision: self
                    .precision
                    .set()
                    .map_or_else(|| device.best_precision(), Into::into),
            },
        };
        let speed = device.train_speed(&model, &load, corpus).map_err(failed)?;
        let parameters = model.layout().map_err(failed)?.parameters();
        let predicted = predicted(&model, &load, &device).map_err(failed)?;
        if self.json {
            let trained = Trained {
                preset: self.preset,
                parameters,
                device: device.name().to_owned(),
                batch: self.batch,
                context: model.context,
                tokens_per_second: speed.tokens_per_second,
                flops_utilisation: speed.flops_utilisation(),
                peak_memory_bytes: speed.peak_memory_bytes,
                predicted_memory_bytes: predicted,
                step_seconds: speed.step_seconds,
                first_step_seconds: speed.first_step_seconds,
                flops_per_token: speed.flops_per_token,
                matrix_flops_per_second: speed.matrix_flops_per_second,
                data_wait_seconds: speed.data_wait_seconds,
                loader_tokens_per_second: speed.loader_tokens_per_second,
            };
            let json = serde_json::to_string_pretty(&trained)
                .map_err(|error| Error::of(ErrorKind::Internal, error))?;
            println!("{json}");
        } else {
            let million = parameters as f64 / 1e6;
            println!(
                "{}: {million:.1} M parameters on {}",
                self.preset,
                device.name()
            );
            show_training(self.batch, model.context, &speed, predicted);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn open_corpus(folder: &Path) -> Result<Arc<Corpus>> {
    let folder = PreparedFolder::open(folder).and_then(|folder| Corpus::of_folder(&folder));
    folder
        .map(Arc::new)
        .map_err(|error| Error::of(ErrorKind::Data, error))
}

/// What training alone needs of the memory that is measured: nothing is compressed or saved here,
/// and no node runs beside it.
fn predicted(
    model: &ModelSpec,
    load: &TrainLoad,
    device: &OpenDevice,
) -> weal_trainer::Result<u64> {
    let threads = device.memory_planner(None).threads;
    let workload = Workload {
        model: model.clone(),
        batch: load.batch as usize,
        plan: load.plan,
        threads,
    };
    let need = workload.memory()?;
    let items = if threads.is_none() {
        need.device
    } else {
        need.host
    };
    let elsewhere = [ERROR_FEEDBACK, AGREED_WEIGHTS, SAVING];
    let training = items
        .iter()
        .filter(|item| !elsewhere.contains(&item.what))
        .map(|item| item.bytes)
        .sum::<u64>();
    // On the processor the weights that it starts from count, too.
    Ok(training
        + if threads.is_some() {
            4 * model.layout()?.parameters() as u64
        } else {
            0
        })
}

fn show_training(batch: u32, context: usize, speed: &TrainSpeed, predicted: u64) {
    let flops = speed.tokens_per_second * speed.flops_per_token;
    println!(
        "training         {:8.0} tokens/s in steps of {batch} x {context}",
        speed.tokens_per_second
    );
    println!(
        "a step           {:8.1} ms; the first took {:.1} s",
        1e3 * speed.step_seconds,
        speed.first_step_seconds
    );
    println!(
        "arithmetic       {:8.1} GFLOP/s, {:.2} of what large matrix products reach",
        flops / 1e9,
        speed.flops_utilisation()
    );
    println!(
        "data             {:8.1} ms waited for it in all; it gives {:.0} tokens/s",
        1e3 * speed.data_wait_seconds,
        speed.loader_tokens_per_second
    );
    if let Some(bytes) = speed.peak_memory_bytes {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "memory           {:8.1} MiB at the most, {:.1} predicted",
            mebibytes(bytes),
            mebibytes(predicted)
        );
    }
}

impl BenchArgs {
    pub fn run(self) -> Result<ExitCode> {
        match self.what {
            What::Codec(args) => args.run(),
            What::Train(args) => args.run(),
        }
    }
}

impl CodecArgs {
    fn run(self) -> Result<ExitCode> {
        set_threads(self.threads)?;
        let layout = self.layout()?;
        let compression = Compression {
            chunk: self.chunk,
            keep: self.keep,
            ..Compression::default()
        };
        let measured = bench::codec(&layout, &compression, self.contributions.into());
        let mut speed = measured.map_err(|error| Error::of(ErrorKind::Usage, error))?;
        let failed = |error: weal_trainer::Error| Error::of(ErrorKind::Device, error);
        let device = open_device(self.device)?;
        speed.gpu = bench::gpu(&layout, &compression, &device).map_err(failed)?;
        if self.json {
            let json = serde_json::to_string_pretty(&speed)
                .map_err(|error| Error::of(ErrorKind::Internal, error))?;
            println!("{json}");
        } else {
            show(&self.preset, &speed);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn layout(&self) -> Result<Layout> {
        let refused = |error: &dyn std::fmt::Display| {
            Error::usage(format!("--preset {}: {error}", self.preset))
        };
        let model = ModelSpec::preset(&self.preset).map_err(|error| refused(&error))?;
        model.layout().map_err(|error| refused(&error))
    }
}

fn show(preset: &str, speed: &CodecSpeed) {
    let copy = speed.copy_bytes_per_second;
    let million = speed.parameters as f64 / 1e6;
    println!(
        "{preset}: {million:.1} M parameters, {} contributions, {} threads",
        speed.contributions, speed.threads
    );
    println!(
        "on the wire      {:8.2} bits a value kept, {:.0} times fewer bytes than f32",
        speed.bits_per_value, speed.ratio_f32
    );
    println!("copying memory   {:8.2} GB/s", copy / 1e9);
    let line = |what: &str, bytes: f64, seconds: Option<f64>| {
        let time = seconds
            .map(|seconds| format!(", {:.2} ms", 1e3 * seconds))
            .unwrap_or_default();
        println!(
            "{what:<16} {:8.2} GB/s, {:.2} of the copy{time}",
            bytes / 1e9,
            bytes / copy
        );
    };
    line(
        "compressing",
        speed.compress_bytes_per_second,
        Some(speed.compress_seconds),
    );
    line("the outer step", speed.outer_step_bytes_per_second, None);
    line("the state root", speed.root_bytes_per_second, None);
    println!(
        "checking one     {:8.2} G values/s, on one thread",
        speed.check_values_per_second / 1e9
    );
    println!(
        "adding up        {:8.2} G values/s; with the outer step {:.2} ms",
        speed.aggregate_values_per_second / 1e9,
        1e3 * speed.apply_seconds
    );
    if let Some(gpu) = &speed.gpu {
        let (copy, compress) = (gpu.copy_bytes_per_second, gpu.compress_bytes_per_second);
        println!("{}", gpu.device);
        println!("copying          {:8.2} GB/s", copy / 1e9);
        let (ratio, milliseconds) = (compress / copy, 1e3 * gpu.compress_seconds);
        println!(
            "compressing      {:8.2} GB/s, {ratio:.2} of the copy, {milliseconds:.2} ms",
            compress / 1e9
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weal_trainer::PRESETS;

    #[test]
    fn the_help_names_every_preset() {
        let help = <BenchArgs as Args>::augment_args(clap::Command::new("bench"));
        for what in ["codec", "train"] {
            let what = help.find_subcommand(what).unwrap();
            let preset = what
                .get_arguments()
                .find(|argument| argument.get_id() == "preset")
                .unwrap();
            let text = preset.get_help().unwrap().to_string();
            assert!(PRESETS.iter().all(|name| text.contains(name)), "{text}");
        }
    }
}
