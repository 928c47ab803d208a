//! Nodes that start before anybody can be reached, as when a machine starts before its router.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use weal_dashboard::{Level, NodeState, Snapshot};
use weal_tests::net::{Net, alone, quick_run};

const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the page warns that a peer cannot be reached, and says why.
fn warns(status: &Snapshot) -> bool {
    let mut lines = status.events.iter();
    lines.any(|line| {
        let reason = line.text.contains("refused") || line.text.contains("timed out");
        line.level == Level::Warn && line.text.contains("retrying") && reason
    })
}

/// What a node's `/metrics` says.
fn metrics(net: &Net, node: usize) -> String {
    let mut page = TcpStream::connect(net.nodes[node].page).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    page.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn nodes_that_start_before_anybody_is_reachable_say_why_and_find_the_network_when_it_comes_up() {
    let _alone = alone();
    let mut net = Net::asleep(3, quick_run());
    let link = net.link();
    let newcomer = net.join(&link);
    let ended = net.join(&link);
    // A founder that knows the run already waits too.
    net.launch(2);
    let early = [newcomer, ended, 2];
    net.wait_for("warnings", PATIENCE, |net| {
        let statuses = early.map(|node| net.status(node));
        statuses
            .iter()
            .all(|status| status.as_ref().is_some_and(warns))
    });
    for node in [newcomer, ended] {
        let state = net.status(node).unwrap().node.state;
        assert_eq!(state, NodeState::CatchingUp);
        let text = metrics(&net, node);
        assert!(
            text.contains("commonweal_node_state{state=\"catching_up\"} 1"),
            "{text}"
        );
    }
    // A signal ends one that has not joined yet at once, and another in good order.
    assert_eq!(net.terminate(ended), Some(143));
    assert_eq!(net.terminate(2), Some(0));

    for founder in 0..3 {
        net.launch(founder);
    }
    net.wait_for_rounds(2, PATIENCE);
    assert!(net.rounds(newcomer) >= 2);
}
