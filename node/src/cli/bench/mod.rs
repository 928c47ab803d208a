//! `weal bench`: measures how fast this machine is.

mod codec;
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
    /// Measure compressing, checking and applying contributions, compared with copying memory.
    Codec(codec::CodecArgs),
    /// Measure training speed, compared with multiplying large matrices.
    Train(train::TrainArgs),
}

impl BenchArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.command {
            BenchCommand::Codec(args) => args.run(),
            BenchCommand::Train(args) => args.run(),
        }
    }
}
