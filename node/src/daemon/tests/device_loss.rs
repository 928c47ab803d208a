//! A node alone in its run, on a device that fails.

use weal_dashboard::NodeState;

use super::*;
use crate::settings::OnDeviceLoss;

async fn start(fault: InjectedFault, on_device_loss: OnDeviceLoss) -> TestNode {
    let root = tempfile::tempdir().unwrap();
    let plan = TestnetPlan {
        root: root.path().to_owned(),
        nodes: local_nodes(1, 0, Device::Cpu, 1).unwrap(),
        run: short_rounds(),
    };
    let folder = prepare(&plan).unwrap().1.remove(0).folder;
    let mut settings = Settings::read(&folder).unwrap();
    settings.compute.on_device_loss = on_device_loss;
    let home = folder.enter().unwrap().expect_home().unwrap();
    let device = OpenDevice::cpu().with_fault(fault);
    TestNode::start(root.into(), (home, settings), device).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_device_is_lost_continues_on_the_cpu() {
    let alone = start(InjectedFault::after(3, u64::MAX), OnDeviceLoss::Fallback).await;
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
    let alone = start(InjectedFault::after(3, 1), OnDeviceLoss::Wait).await;
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
    let TestNode {
        running,
        stop: _stop,
        ..
    } = start(InjectedFault::after(3, 0), OnDeviceLoss::Restart).await;
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.code(), 11, "{error}");
}
