//! Nodes that come back, and keys that are used twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use weal_dashboard::NodeState;
use weal_tests::net::{Net, alone, program, quick_run};

const PATIENCE: Duration = Duration::from_secs(120);

/// Time limit on each phase of a round, far above what a phase takes if nobody is missing.
const PHASE: Duration = Duration::from_secs(120);

#[test]
fn a_node_that_is_killed_and_starts_at_once_holds_nobody_up() {
    let _alone = alone();
    let mut run = quick_run();
    run.timing.train_seconds = PHASE.as_secs_f64();
    run.timing.fetch_seconds = PHASE.as_secs_f64();
    run.timing.attest_seconds = PHASE.as_secs_f64();
    let mut net = Net::start(3, run);
    net.wait_for_rounds(3, PATIENCE);
    let killed = Instant::now();
    net.kill(2);
    net.launch(2);
    // All three are needed for a decision, and each of them waits for what the others send. Without
    // gossip and blobs in both directions, rounds run into their time limits.
    let rounds = net.rounds(0);
    net.wait_for("seven rounds", 2 * PHASE, |net| net.rounds(0) >= rounds + 7);
    let took = killed.elapsed();
    println!("seven rounds took {took:?}");
    assert!(took < PHASE, "a phase ran into its time limit: {took:?}");
}

#[test]
fn a_second_machine_with_the_same_key_stops_before_it_signs() {
    let _alone = alone();
    let net = Net::start(3, quick_run());
    net.wait_for_rounds(2, PATIENCE);
    let link = net.status(0).expect("a node that answers").run.link;
    let twin = tempfile::tempdir().expect("a folder");
    let key = net.nodes[2].folder.path().join("key");
    fs::copy(key, twin.path().join("key")).expect("a copy of the key");
    let dir = twin.path().to_str().expect("a path in UTF-8");
    let flags = [
        "--port",
        "0",
        "--page",
        "127.0.0.1:0",
        "--no-mdns",
        "--device",
        "cpu",
    ];
    let second = Command::new(program())
        .args(["join", &link, "--dir", dir])
        .args(flags)
        .output()
        .expect("a program that starts");
    let message = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(9), "{message}");
    assert!(message.contains("another machine"), "{message}");

    net.wait_for("the first machine says so", PATIENCE, |net| {
        let lines = net
            .status(2)
            .map(|status| status.events)
            .unwrap_or_default();
        lines
            .iter()
            .any(|line| line.text.contains("another machine has started"))
    });
    let rounds = net.rounds(2);
    net.wait_for_rounds(rounds + 2, PATIENCE);
    let state = net.status(2).map(|status| status.node.state);
    assert_ne!(state, Some(NodeState::Error));
}
