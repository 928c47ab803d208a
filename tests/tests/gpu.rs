//! A peer on a GPU beside peers on CPUs. The GPU may be lavapipe, which emulates one on the CPU.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use weal::settings::Device;
use weal::testnet::prepare::local_nodes;
use weal_testing::require::skip;
use weal_tests::net::{Net, quick_run};

/// The first step compiles and tunes every kernel.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn a_gpu_peer_and_cpu_peers_hold_the_same_weights() {
    if weal_trainer::gpus().is_empty() {
        skip(
            "a GPU peer beside CPU peers",
            "no Vulkan driver; on Debian: apt-get install mesa-vulkan-drivers",
        );
        return;
    }
    let mut nodes = local_nodes(3, 0, Device::Cpu, 1).expect("free ports");
    nodes[2].device = Device::Gpu;
    let mut run = quick_run();
    // Long enough for the GPU peer's first step. A round ends early once all peers are done.
    run.timing.train_seconds = 400.0;
    run.timing.fetch_seconds = 30.0;
    let net = Net::start_planned(nodes, run);
    net.wait_for_rounds(3, PATIENCE);
    assert!(net.assert_roots_agree() >= 3);
    let gpu = net.nodes[2].peer.clone();
    let history = net.status(0).expect("a node that answers").history;
    assert!(
        history
            .iter()
            .any(|record| record.contributors.contains(&gpu)),
        "the GPU peer contributed to no round"
    );
}
