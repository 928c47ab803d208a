//! `weal join`: comes to a run by its link, and takes part.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::node::{NodeArgs, set_threads, take_part};
use super::{FolderArgs, block_on};
use crate::daemon::Options;
use crate::error::Result;
use crate::join::{JoinRequest, LocalData, join};
use crate::link::RunLink;

#[derive(Debug, Args)]
pub struct JoinArgs {
    /// The link: weal:<run id>?peer=<multiaddr>
    link: String,
    /// Seconds to wait for a peer that has the run.
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// Files and folders that may hold texts of the run, or its prepared tokens: what is there need
    /// not be fetched from peers.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Fetch everything, but do not take part yet.
    #[arg(long)]
    only_fetch: bool,
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl JoinArgs {
    pub fn run(self) -> Result<ExitCode> {
        let link: RunLink = self.link.parse()?;
        let folder = self.folder.folder();
        let mut settings = self.node.settings(&folder)?;
        set_threads(settings.compute.threads)?;
        let local = LocalData::read(&self.data)?;
        block_on(async {
            let tell = |text: &str| eprintln!("{text}");
            let request = JoinRequest {
                link: &link,
                settings: &settings.network,
                patience: Duration::from_secs(self.patience),
                local,
                tell: &tell,
            };
            let home = join(folder.enter()?, request).await?;
            for peer in link.peers {
                if !settings.network.bootstrap.contains(&peer) {
                    settings.network.bootstrap.push(peer);
                }
            }
            if self.only_fetch {
                return Ok(());
            }
            take_part(Options {
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
