//! `weal run`: takes part in the run of a data folder.

use std::process::ExitCode;

use clap::Args;
use weal_proto::PeerId;

use super::args::FolderArgs;
use super::node::{NodeArgs, take_part};
use super::progress::ByteBar;
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
    /// Declare a voter gone for ever (64 hexadecimal digits), so that the others can go on. Repeat
    /// it for each one. Only if voters with a third of the weight or more will never come back, and
    /// with the same list on every node that is left: see docs/running/node.md.
    #[arg(long = "gone", value_name = "PEER")]
    gone: Vec<PeerId>,
}

impl RunArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let folder = self.folder.folder()?;
        new_run::expect(&folder)?;
        let settings = self.node.settings(&folder)?;
        set_threads(settings.compute.threads)?;
        // At the first start of an import, the weights are read, which may take minutes.
        let bar = ByteBar::new("reading the model");
        let home = new_run::seal(&folder, &mut bar.callback())?;
        bar.clear();
        block_on(take_part(Options {
            home,
            settings,
            rounds: self.node.rounds,
            device: None,
            dashboard: None,
            gone: self.gone,
        }))?;
        Ok(ExitCode::SUCCESS)
    }
}
