//! `weal bench`: measures how fast this machine is.

mod check;
mod codec;
mod plan;
mod train;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::error::Result;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Check that a device computes what the CPU computes: training, losses, compressed bytes.
    Check(check::CheckArgs),
    /// Measure compressing, checking and applying contributions, compared with copying memory.
    Codec(codec::CodecArgs),
    /// Measure training speed, compared with multiplying large matrices.
    Train(train::TrainArgs),
}

impl BenchArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.command {
            BenchCommand::Check(args) => args.run(),
            BenchCommand::Codec(args) => args.run(),
            BenchCommand::Train(args) => args.run(),
        }
    }
}
