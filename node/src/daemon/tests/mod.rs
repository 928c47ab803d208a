//! A node in this process.

mod beginning;
mod device_loss;
mod weights;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weal_dashboard::{Dashboard, Snapshot};
use weal_trainer::{InjectedFault, OpenDevice};

use super::{Options, open};
use crate::error::Result;
use crate::home::Home;
use crate::new_run::RunFile;
use crate::settings::{ByteCount, Device, Settings};
use crate::testnet::prepare::{TestnetPlan, local_nodes, prepare};

const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);

/// A running node.
struct TestNode {
    dashboard: Dashboard,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<Result<()>>,
    _root: Arc<tempfile::TempDir>,
}

/// A run with rounds of two short steps.
fn short_rounds() -> RunFile {
    let mut run = RunFile::default();
    run.inner.steps = 2;
    run.inner.batch = 1;
    run.data.generator_bytes = ByteCount(200_000);
    run
}

impl TestNode {
    async fn start(
        root: Arc<tempfile::TempDir>,
        (home, settings): (Home, Settings),
        device: OpenDevice,
    ) -> Self {
        let daemon = open(Options {
            gone: Vec::new(),
            home,
            settings,
            rounds: None,
            device: Some(device),
            dashboard: None,
        })
        .await
        .unwrap();
        let (stop, stopped) = watch::channel(false);
        Self {
            dashboard: daemon.dashboard.clone(),
            stop,
            running: tokio::spawn(daemon.run(stopped)),
            _root: root,
        }
    }

    async fn wait_for(&self, what: &str, mut condition: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        let mut poll = tokio::time::interval(POLL);
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.dashboard.status();
            if condition(&status) {
                return status;
            }
            assert!(
                tokio::time::Instant::now() < until && !self.running.is_finished(),
                "no {what}: {status:#?}"
            );
            poll.tick().await;
        }
    }

    async fn end(self) -> Result<()> {
        // Fails if the node has ended by itself.
        let _ = self.stop.send(true);
        self.running.await.unwrap()
    }
}

fn own_rounds(status: &Snapshot) -> u64 {
    status
        .history
        .iter()
        .filter(|record| record.contributors.contains(&status.node.id))
        .count() as u64
}

/// Rounds that the node has decided and applied.
fn rounds(status: &Snapshot) -> u64 {
    let last = status.history.last();
    last.map_or(0, |record| record.round + 1)
}

/// Whether a line of the page's log contains this.
fn says(status: &Snapshot, text: &str) -> bool {
    status.events.iter().any(|line| line.text.contains(text))
}
