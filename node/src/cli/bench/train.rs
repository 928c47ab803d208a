//! `weal bench train`: training speed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use weal_trainer::{
    Corpus, ERROR_FEEDBACK, KernelUse, ModelSpec, OpenDevice, PreparedFolder, TrainLoad, Workload,
};

use super::plan::PlanArgs;
use crate::cli::args::{DeviceArgs, JsonArgs, PresetParser, print_json};
use crate::cli::open::open_device;
use crate::cli::runtime::set_threads;
use crate::error::{Error, ErrorKind, Result};
use crate::terminal::print_line;

#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// Model size.
    #[arg(long, default_value = "nano", value_parser = PresetParser)]
    preset: String,
    /// Tokens per sequence. By default each preset has its own.
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Sequences per step.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Number of steps to time.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    /// Folder of prepared data to train on; without it, the built-in generator makes the text.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    #[command(flatten)]
    plan: PlanArgs,
    /// Time each kernel of a GPU in one more step, and list those that take longest.
    #[arg(long)]
    kernels: bool,
    /// Number of CPU threads; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// The result that `--json` prints.
#[derive(Serialize)]
struct TrainResult {
    preset: String,
    parameters: usize,
    device: String,
    precision: String,
    plan: String,
    batch: u32,
    context: usize,
    tokens_per_second: f64,
    flops_utilisation: f64,
    peak_memory_bytes: Option<u64>,
    /// The memory model's prediction of `peak_memory_bytes`.
    predicted_memory_bytes: u64,
    step_seconds: f64,
    first_step_seconds: f64,
    flops_per_token: f64,
    matrix_flops_per_second: f64,
    launches: Option<usize>,
    kernels: Vec<Kernel>,
    data_wait_seconds: f64,
    loader_tokens_per_second: f64,
}

/// A kernel of the list that `--kernels` prints.
#[derive(Serialize)]
struct Kernel {
    kernel: String,
    launches: usize,
    seconds: f64,
}

/// Kernels to list.
const LISTED: usize = 25;

/// The kernels that took longest.
fn listed(kernels: &[KernelUse]) -> Vec<Kernel> {
    let all = kernels.iter().take(LISTED).map(|used| Kernel {
        kernel: used.kernel.clone(),
        launches: used.launches,
        seconds: used.seconds,
    });
    all.collect()
}

impl TrainArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        set_threads(self.threads)?;
        let mut model = ModelSpec::preset(&self.preset).map_err(|error| {
            Error::from(error)
                .with_kind(ErrorKind::Usage)
                .context("--preset")
        })?;
        if let Some(context) = self.context {
            model.context = context;
            model.validate().map_err(|error| {
                Error::from(error)
                    .with_kind(ErrorKind::Usage)
                    .context("--context")
            })?;
        }
        let corpus = self.data.as_deref().map(open_corpus).transpose()?;
        if let Some(corpus) = &corpus {
            model = model.with_vocabulary(corpus.tokeniser().vocabulary());
        }
        let failed = |error: weal_trainer::Error| Error::from(error).with_kind(ErrorKind::Device);
        let device = open_device(self.device.device)?;
        let load = TrainLoad {
            batch: self.batch,
            steps: self.steps,
            plan: self
                .plan
                .plan(&device, &model, self.batch)
                .map_err(failed)?,
            time_kernels: self.kernels,
        };
        let speed = device.train_speed(&model, &load, corpus).map_err(failed)?;
        let parameters = model.layout().map_err(failed)?.parameters();
        let predicted_memory_bytes =
            predicted_memory_bytes(&model, &load, &device).map_err(failed)?;
        let result = TrainResult {
            preset: self.preset,
            parameters,
            device: device.name().to_owned(),
            precision: load.plan.precision.to_string(),
            plan: load.plan.to_string(),
            batch: self.batch,
            context: model.context,
            tokens_per_second: speed.tokens_per_second,
            flops_utilisation: speed.flops_utilisation(),
            peak_memory_bytes: speed.peak_memory_bytes,
            predicted_memory_bytes,
            step_seconds: speed.step_seconds,
            first_step_seconds: speed.first_step_seconds,
            flops_per_token: speed.flops_per_token,
            matrix_flops_per_second: speed.matrix_flops_per_second,
            launches: device
                .is_gpu()
                .then(|| speed.kernels.iter().map(|kernel| kernel.launches).sum()),
            kernels: if self.kernels {
                listed(&speed.kernels)
            } else {
                Vec::new()
            },
            data_wait_seconds: speed.data_wait_seconds,
            loader_tokens_per_second: speed.loader_tokens_per_second,
        };
        if self.json.json {
            print_json(&result)?;
        } else {
            print(&result)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn open_corpus(folder: &Path) -> Result<Arc<Corpus>> {
    let folder = PreparedFolder::open(folder).and_then(|folder| Corpus::of_folder(&folder));
    folder
        .map(Arc::new)
        .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))
}

/// The memory that training needs by the memory model. This command compresses and saves nothing,
/// and no node runs beside it.
fn predicted_memory_bytes(
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
        muon: false,
    };
    let need = workload.memory()?;
    let items = if threads.is_none() {
        need.device
    } else {
        need.host
    };
    let training: u64 = items
        .iter()
        .filter(|item| item.what != ERROR_FEEDBACK)
        .map(|item| item.bytes)
        .sum();
    // On the CPU the initial weights lie in the same memory.
    let initial_weights = match threads {
        Some(_) => 4 * model.layout()?.parameters() as u64,
        None => 0,
    };
    Ok(training + initial_weights)
}

fn print(result: &TrainResult) -> Result<()> {
    let million = result.parameters as f64 / 1e6;
    print_line!(
        "{}: {million:.1} M parameters on {}; {}",
        result.preset,
        result.device,
        result.plan
    )?;
    print_line!(
        "training         {:8.0} tokens/s in steps of {} x {}",
        result.tokens_per_second,
        result.batch,
        result.context
    )?;
    print_line!(
        "step             {:8.1} ms; the first took {:.1} s",
        1e3 * result.step_seconds,
        result.first_step_seconds
    )?;
    print_line!(
        "arithmetic       {:8.1} GFLOP/s, {:.2} of what large matrix products reach",
        result.tokens_per_second * result.flops_per_token / 1e9,
        result.flops_utilisation
    )?;
    print_line!(
        "data             {:8.1} ms waited in total; the loader delivers {:.0} tokens/s",
        1e3 * result.data_wait_seconds,
        result.loader_tokens_per_second
    )?;
    if let Some(launches) = result.launches {
        print_line!("launches         {launches:8} kernels a step")?;
    }
    for Kernel {
        kernel,
        launches,
        seconds,
    } in &result.kernels
    {
        print_line!("{:16} {:8.2} ms {launches:6} x {kernel}", "", 1e3 * seconds)?;
    }
    if let Some(bytes) = result.peak_memory_bytes {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        print_line!(
            "peak memory      {:8.1} MiB; predicted {:.1} MiB",
            mebibytes(bytes),
            mebibytes(result.predicted_memory_bytes)
        )?;
    }
    Ok(())
}
