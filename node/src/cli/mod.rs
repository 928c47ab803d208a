//! The command line: one file a command, all of the same shape.

mod bench;
mod data;
mod doctor;
mod eval;
mod export;
mod generate;
mod import;
mod join;
mod key;
mod new;
mod node;
mod progress;
mod run;
mod status;
mod testnet;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use weal_trainer::OpenDevice;

use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::loaded_model::LoadedModel;
use crate::settings::Device;
use progress::{Bar, spinning};

/// What is logged by default. Several nodes that measure one GPU at once are no reason to warn.
pub const LOGGED: &str =
    "warn,weal=info,libp2p_kad=error,wgpu_hal=off,cubecl_runtime::throughput=error";

/// Trains one large language model on many people's machines, with nobody in charge.
#[derive(Debug, Parser)]
#[command(name = "weal", version, arg_required_else_help = true)]
pub struct Cli {
    /// What is logged: error, warn, info, debug, trace, or a filter such as weal=debug,libp2p=info.
    #[arg(long, global = true, env = "WEAL_LOG", default_value = LOGGED)]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A whole network on this machine: trains, and shows how.
    Testnet(testnet::TestnetArgs),
    /// Writes a new run for you to edit; the first `weal run` starts it.
    New(new::NewArgs),
    /// Writes a new run that goes on from a model trained elsewhere.
    Import(import::ImportArgs),
    /// Joins a run by its link, and takes part.
    Join(join::JoinArgs),
    /// Takes part in the run of a data folder.
    Run(run::RunArgs),
    /// Says what a running node is doing.
    Status(status::StatusArgs),
    /// Lets the newest weights of a data folder, or another model, write text.
    Generate(generate::GenerateArgs),
    /// Examines a model: how well it predicts text, how it answers multiple-choice questions.
    Eval(eval::EvalArgs),
    /// Writes the newest weights of a data folder as others read them: safetensors, or GGUF.
    Export(export::ExportArgs),
    /// Makes data ready for training: files from anywhere become shards of tokens.
    Data(data::DataArgs),
    /// Measures how fast this machine is.
    Bench(bench::BenchArgs),
    /// Says what stands between this machine and training, and what models it has room for.
    Doctor(doctor::DoctorArgs),
    /// Shows this machine's public key, making one if there is none.
    Key(key::KeyArgs),
}

/// The data folder of a command.
#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// The data folder: one run, one key.
    #[arg(long, env = "WEAL_DIR", default_value_os_t = default_folder(), value_name = "FOLDER")]
    dir: PathBuf,
}

impl FolderArgs {
    fn folder(&self) -> Folder {
        Folder::new(&self.dir)
    }
}

/// A model, and a device for it: a Hugging Face folder, or else the newest weights of the data
/// folder.
fn open_model(
    model: Option<&PathBuf>,
    folder: &FolderArgs,
    device: Device,
) -> Result<(LoadedModel, OpenDevice)> {
    let bar = Bar::new("reading");
    let opened = LoadedModel::open(model, &folder.folder(), &mut bar.told());
    bar.end();
    let opened = opened?;
    let device = open_device(device)?;
    eprintln!("{}, on {}", opened.origin, device.name());
    Ok((opened, device))
}

/// A device for work that somebody waits for.
fn open_device(device: Device) -> Result<OpenDevice> {
    let opened = OpenDevice::open(device).map_err(|error| Error::of(ErrorKind::Device, error))?;
    Ok(spinning(opened))
}

fn default_folder() -> PathBuf {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = || {
        from("HOME")
            .or_else(|| from("USERPROFILE"))
            .map(|home| home.join(".local/share"))
    };
    from("XDG_DATA_HOME")
        .or_else(home)
        .unwrap_or_default()
        .join("weal")
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// With a message for people and an exit code.
    pub fn run(self) -> Result<ExitCode> {
        let filter = EnvFilter::try_new(&self.log)
            .map_err(|error| Error::usage(format!("--log {}: {error}", self.log)))?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .init();
        match self.command {
            Command::Testnet(args) => args.run(),
            Command::New(args) => args.run(),
            Command::Import(args) => args.run(),
            Command::Join(args) => args.run(),
            Command::Run(args) => args.run(),
            Command::Status(args) => args.run(),
            Command::Generate(args) => args.run(),
            Command::Eval(args) => args.run(),
            Command::Export(args) => args.run(),
            Command::Data(args) => args.run(),
            Command::Bench(args) => args.run(),
            Command::Doctor(args) => args.run(),
            Command::Key(args) => args.run(),
        }
    }
}

/// Runs a future on a runtime with as many threads as there are cores.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("the runtime cannot start: {error}")))?
        .block_on(future)
}

/// Becomes true on Ctrl-C, and on SIGTERM where there is such a thing. A second Ctrl-C ends the
/// process at once.
fn stop_signal() -> Result<watch::Receiver<bool>> {
    let (tell, stop) = watch::channel(false);
    let unusable = |error| Error::internal(format!("signals cannot be received: {error}"));
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(unusable)?;
    tokio::spawn(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        tell.send_replace(true);
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    Ok(stop)
}
