//! `weal join`: joins a run by its link and takes part in it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::args::FolderArgs;
use super::node::{NodeArgs, take_part};
use super::runtime::{block_on, set_threads};
use crate::daemon::Options;
use crate::error::Result;
use crate::join::{JoinRequest, LocalData, join};
use crate::link::RunLink;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// Link of the run: weal:<run id>?peer=<multiaddr>.
    link: String,
    /// Seconds to wait for a peer that has the run.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    patience: u64,
    /// Files and folders that may hold texts or prepared tokens of the run. What is found there is
    /// not downloaded.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Download everything, but do not take part yet.
    #[arg(long)]
    only_fetch: bool,
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl JoinArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let link: RunLink = self.link.parse()?;
        let folder = self.folder.folder()?;
        let settings = self.node.settings(&folder)?;
        set_threads(settings.compute.threads)?;
        let local = LocalData::read(&self.data)?;
        block_on(async {
            let tell = |text: &str| say!("{text}");
            let request = JoinRequest {
                link: &link,
                settings: &settings.network,
                patience: Duration::from_secs(self.patience),
                local,
                tell: &tell,
            };
            let home = join(folder.enter()?, request).await?;
            if self.only_fetch {
                return Ok(());
            }
            take_part(Options {
                gone: Vec::new(),
                home,
                settings,
                rounds: self.node.rounds,
                device: None,
            })
            .await
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
