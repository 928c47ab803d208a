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
use crate::home::Entered;
use crate::join::{JoinRequest, JoiningPage, LocalData, Progress, join};
use crate::link::RunLink;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// Link of the run: weal:<run id>?peer=<multiaddr>.
    link: String,
    /// Give up if no peer has what is needed for this many seconds. By default the node looks for
    /// peers until it finds them.
    #[arg(long, value_name = "SECONDS")]
    patience: Option<u64>,
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
        let mut settings = self.node.settings(&folder)?;
        set_threads(settings.compute.threads)?;
        let local = LocalData::read(&self.data)?;
        block_on(async {
            let place = folder.enter()?;
            if let Entered::Run(home) = &place {
                folder.expect_run(home.run, link.run)?;
            }
            let mut page = None;
            if !self.only_fetch {
                page = Some(JoiningPage::open(&mut settings, &folder, &link).await?);
                say!("page: http://{}/", settings.page.listen);
            }
            let tell = |progress: Progress<'_>| {
                say_progress(&progress);
                if let Some(page) = &page {
                    page.tell(progress);
                }
            };
            let request = JoinRequest {
                link: &link,
                settings: &settings.network,
                patience: self.patience.map(Duration::from_secs),
                local,
                tell: &tell,
            };
            let home = join(place, request).await?;
            if self.only_fetch {
                return Ok(());
            }
            take_part(Options {
                gone: Vec::new(),
                home,
                settings,
                rounds: self.node.rounds,
                device: None,
                dashboard: page.map(JoiningPage::into_dashboard),
            })
            .await
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Says how joining goes on the terminal; the page shows more.
pub(super) fn say_progress(progress: &Progress<'_>) {
    match progress {
        Progress::Note(text) => say!("{text}"),
        Progress::Warning(text) => say!("warning: {text}"),
        Progress::Fetch(_) => {}
    }
}
