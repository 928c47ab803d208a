//! What the page shows while a node joins.

use std::sync::{Mutex, MutexGuard, PoisonError};

use weal_dashboard::{Dashboard, Level, LogLine, Node, NodeState, Run, Snapshot};

use super::Progress;
use crate::error::Result;
use crate::folder::Folder;
use crate::link::RunLink;
use crate::page_port::{listen_for_page, serve_page};
use crate::settings::Settings;
use crate::wall_clock::unix_ms;

/// Lines of progress that the page keeps.
const LINES: usize = 100;

/// The page of a node that joins. It becomes the node's page once the node takes part.
pub struct JoiningPage {
    dashboard: Dashboard,
    snapshot: Mutex<Snapshot>,
}

impl JoiningPage {
    /// Serves the page.
    ///
    /// # Errors
    /// If the page's port is taken, or the folder's key cannot be read.
    pub async fn open(settings: &mut Settings, folder: &Folder, link: &RunLink) -> Result<Self> {
        let key = folder.key()?;
        let page = Self {
            dashboard: Dashboard::new(),
            snapshot: Mutex::new(Snapshot {
                run: Run {
                    id: link.run.to_string(),
                    link: link.to_string(),
                    ..Run::default()
                },
                node: Node {
                    id: key.peer().to_string(),
                    name: key.peer().short(),
                    version: env!("CARGO_PKG_VERSION").into(),
                    state: NodeState::CatchingUp,
                    ..Node::default()
                },
                ..Snapshot::default()
            }),
        };
        page.says(Level::Info, "joining: looking for peers");
        let port = listen_for_page(settings, folder).await?;
        serve_page(port, page.dashboard.clone());
        Ok(page)
    }

    /// Shows how joining goes.
    pub fn tell(&self, progress: Progress<'_>) {
        match progress {
            Progress::Note(text) => self.says(Level::Info, &format!("joining: {text}")),
            Progress::Warning(text) => self.says(Level::Warn, &format!("joining: {text}")),
            Progress::Fetch(fetch) => {
                let mut snapshot = self.snapshot();
                snapshot.fetch = fetch;
                self.dashboard.publish(snapshot.clone());
            }
        }
    }

    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn says(&self, level: Level, text: &str) {
        let mut snapshot = self.snapshot();
        snapshot.node.message = text.into();
        if snapshot.events.len() >= LINES {
            snapshot.events.remove(0);
        }
        snapshot.events.push(LogLine {
            unix_ms: unix_ms(),
            level,
            text: text.into(),
        });
        self.dashboard.publish(snapshot.clone());
    }

    /// The page, for the node that takes part.
    #[must_use]
    pub fn into_dashboard(self) -> Dashboard {
        self.dashboard
    }
}
