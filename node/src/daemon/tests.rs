//! A node in this process, alone in its run, on a device that fails.

use std::time::Duration;

use tokio::sync::watch;
use weal_dashboard::{Dashboard, NodeState, Snapshot};
use weal_trainer::{InjectedFault, OpenDevice};

use super::{Options, open};
use crate::error::Result;
use crate::new_run::RunFile;
use crate::settings::{Device, OnDeviceLoss, Settings};
use crate::testnet::prepare::{TestnetPlan, local_nodes, prepare};

const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);

/// A node alone in its run, which takes two steps a round.
struct Alone {
    dashboard: Dashboard,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<Result<()>>,
    _root: tempfile::TempDir,
}

impl Alone {
    async fn start(fault: InjectedFault, on_device_loss: OnDeviceLoss) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut run = RunFile::default();
        run.inner.steps = 2;
        run.inner.batch = 1;
        run.data.generator_bytes = 200_000;
        let nodes = local_nodes(1, 0, Device::Cpu, 1).unwrap();
        let plan = TestnetPlan {
            root: root.path().to_owned(),
            nodes,
            run,
        };
        let folder = prepare(&plan).unwrap().1.remove(0).folder;
        let mut settings = Settings::read(&folder).unwrap();
        settings.compute.on_device_loss = on_device_loss;
        let device = Some(OpenDevice::cpu().with_fault(fault));
        let daemon = open(Options {
            home: folder.enter().unwrap().expect_home().unwrap(),
            settings,
            rounds: None,
            device,
        })
        .await
        .unwrap();
        let (stop, stopped) = watch::channel(false);
        let dashboard = daemon.dashboard.clone();
        Self {
            dashboard,
            stop,
            running: tokio::spawn(daemon.run(stopped)),
            _root: root,
        }
    }

    async fn wait_for(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
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

fn says(status: &Snapshot, text: &str) -> bool {
    status.events.iter().any(|line| line.text.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_device_is_lost_continues_on_the_cpu() {
    let alone = Alone::start(InjectedFault::after(3, u64::MAX), OnDeviceLoss::Fallback).await;
    let status = alone
        .wait_for("four rounds", |status| own_rounds(status) >= 4)
        .await;
    assert_eq!(
        (status.learner.devices_lost, status.learner.device_lost),
        (1, false)
    );
    assert!(
        says(&status, "was lost") && says(&status, "training continues on CPU"),
        "{:#?}",
        status.events
    );
    alone.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_its_device_says_so_and_stays_in_the_run() {
    // It refuses to open at first, and opens after the first pause.
    let alone = Alone::start(InjectedFault::after(3, 1), OnDeviceLoss::Wait).await;
    let lost = alone
        .wait_for("lost device", |status| status.learner.device_lost)
        .await;
    assert_eq!(lost.node.state, NodeState::Error);
    assert!(
        lost.node.message.contains("was lost; retrying in"),
        "{}",
        lost.node.message
    );
    let before = own_rounds(&lost);
    let status = alone
        .wait_for("contribution", |status| own_rounds(status) > before + 1)
        .await;
    assert_eq!(
        (status.learner.devices_lost, status.learner.device_lost),
        (1, false)
    );
    assert_ne!(status.node.state, NodeState::Error);
    alone.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_to_be_restarted_exits_with_the_code_for_it() {
    let Alone {
        running,
        stop: _stop,
        ..
    } = Alone::start(InjectedFault::after(3, 0), OnDeviceLoss::Restart).await;
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.code(), 11, "{error}");
}
