//! The program's commands and global flags.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use super::{
    bench, data, doctor, eval, export, fork, generate, import, join, key, new, run, sim, status,
    testnet, verify,
};
use crate::error::{Error, Result};
use crate::terminal::colours;

/// What is logged by default. The network's libraries warn of what strangers send, as often as they
/// send it; this program says itself what its owner should know. Nodes that share a GPU disturb
/// each other's throughput measurements, which is no reason to warn.
pub const LOGGED: &str = "warn,weal=info,libp2p=off,yamux=off,quinn=off,rustls=off,wgpu_hal=off,\
    cubecl_runtime::throughput=error";

/// Train one large language model on many people's machines, with nobody in charge.
#[derive(Debug, Parser)]
#[command(name = "weal", version, arg_required_else_help = true)]
pub struct Cli {
    /// Log level: error, warn, info, debug, trace, or a filter such as weal=debug,libp2p=info.
    #[arg(long, global = true, env = "WEAL_LOG", hide_env_values = true,
        value_name = "FILTER", default_value = LOGGED)]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole network on this machine and watch it train.
    Testnet(testnet::TestnetArgs),
    /// Write a new run for you to edit; the first `weal run` starts it.
    New(new::NewArgs),
    /// Write a new run that continues training an existing model.
    Import(import::ImportArgs),
    /// Write a new run that continues another from weights that it decided.
    Fork(fork::ForkArgs),
    /// Join a run by its link and take part in it.
    Join(join::JoinArgs),
    /// Take part in the run of a data folder.
    Run(run::RunArgs),
    /// Show what a running node is doing.
    Status(status::StatusArgs),
    /// Generate text with the newest weights of a data folder, or with another model.
    Generate(generate::GenerateArgs),
    /// Evaluate a model: measure its loss on text and its accuracy on multiple-choice questions.
    Eval(eval::EvalArgs),
    /// Export the newest weights of a data folder as safetensors or GGUF.
    Export(export::ExportArgs),
    /// Verify a run's history, the weights in a data folder, or an exported model.
    Verify(verify::VerifyArgs),
    /// Prepare training data: turn text files into shards of tokens.
    Data(data::DataArgs),
    /// Simulate a run with dishonest peers, and show what they cost.
    Sim(sim::SimArgs),
    /// Measure how fast this machine is.
    Bench(bench::BenchArgs),
    /// Check whether this machine can train, and which models fit it.
    Doctor(doctor::DoctorArgs),
    /// Print the public key of a data folder; create a key if there is none.
    Key(key::KeyArgs),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// When the command fails; the error's kind is the exit code.
    pub fn run(self) -> Result<ExitCode> {
        let filter = EnvFilter::try_new(&self.log)
            .map_err(|error| Error::usage(format!("--log {}: {error}", self.log)))?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_target(false)
            .with_ansi(colours())
            // A log that cannot be written is no reason to end, nor to write about.
            .log_internal_errors(false)
            .with_writer(std::io::stderr)
            .init();
        match self.command {
            Command::Testnet(args) => args.run(),
            Command::New(args) => args.run(),
            Command::Import(args) => args.run(),
            Command::Fork(args) => args.run(),
            Command::Join(args) => args.run(),
            Command::Run(args) => args.run(),
            Command::Status(args) => args.run(),
            Command::Generate(args) => args.run(),
            Command::Eval(args) => args.run(),
            Command::Export(args) => args.run(),
            Command::Verify(args) => args.run(),
            Command::Data(args) => args.run(),
            Command::Sim(args) => args.run(),
            Command::Bench(args) => args.run(),
            Command::Doctor(args) => args.run(),
            Command::Key(args) => args.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use tracing::Level;

    use super::*;

    fn check(command: &clap::Command) {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name} has no help");
        for arg in command.get_arguments() {
            let id = arg.get_id();
            let help = arg.get_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|help| !help.is_empty() && !help.starts_with(' ')),
                "{name}: {id} has no help"
            );
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn every_command_and_argument_has_help() {
        Cli::command().debug_assert();
        check(&Cli::command());
    }

    #[test]
    fn strangers_do_not_fill_the_default_log() {
        use tracing_subscriber::Registry;
        use tracing_subscriber::layer::SubscriberExt;
        let filter = EnvFilter::try_new(LOGGED).unwrap();
        tracing::subscriber::with_default(Registry::default().with(filter), || {
            assert!(tracing::enabled!(target: "weal_network::driver", Level::INFO));
            assert!(tracing::enabled!(target: "redb", Level::WARN));
            assert!(!tracing::enabled!(target: "libp2p_gossipsub::behaviour", Level::ERROR));
            assert!(!tracing::enabled!(target: "yamux::connection", Level::ERROR));
            assert!(!tracing::enabled!(target: "quinn_proto::connection", Level::WARN));
        });
    }
}
