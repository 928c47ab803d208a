//! `weal run`: takes part in the run of a data folder.

use std::process::ExitCode;

use clap::Args;

use super::args::FolderArgs;
use super::node::{NodeArgs, take_part};
use super::runtime::{block_on, set_threads};
use crate::daemon::Options;
use crate::error::Result;
use crate::new_run;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl RunArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let folder = self.folder.folder();
        let settings = self.node.settings(&folder)?;
        set_threads(settings.compute.threads)?;
        block_on(take_part(Options {
            home: new_run::seal(&folder)?,
            settings,
            rounds: self.node.rounds,
            device: None,
        }))?;
        Ok(ExitCode::SUCCESS)
    }
}
