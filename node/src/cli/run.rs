//! `weal run`: takes part in the run of a data folder.

use std::process::ExitCode;

use clap::Args;

use super::node::{NodeArgs, set_threads, take_part};
use super::{FolderArgs, block_on};
use crate::daemon::Options;
use crate::error::Result;
use crate::new_run;

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl RunArgs {
    pub fn run(self) -> Result<ExitCode> {
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
