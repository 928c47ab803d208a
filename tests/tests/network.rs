//! Real processes find each other, train, agree and hold the same weights, and the page shows it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use weal::new_run::RunFile;
use weal_testing::browser::{Visit, visit};
use weal_testing::require::skip;
use weal_tests::net::{Net, alone, quick_run};

const MINUTE: Duration = Duration::from_secs(60);

/// A run whose rounds are long enough to lower the loss.
fn learning_run() -> RunFile {
    let mut run = quick_run();
    run.inner.steps = 5;
    run.inner.batch = 4;
    run.timing.train_seconds = 30.0;
    run
}

#[test]
fn four_peers_learn_and_agree_on_every_round_and_the_page_shows_it() {
    let _alone = alone();
    let net = Net::start(4, learning_run());
    net.wait_for_rounds(6, 4 * MINUTE);
    assert!(net.assert_roots_agree() >= 6);

    net.wait_for("three measured losses", MINUTE, |net| {
        losses(net).len() >= 3
    });
    let losses = losses(&net);
    assert!(
        losses.last() < losses.first(),
        "the loss does not fall: {losses:?}"
    );
    for node in 0..4 {
        let status = net.status(node).expect("a node that answers");
        assert!(
            status
                .history
                .iter()
                .skip(1)
                .all(|record| record.contributions >= 3),
            "{:?}",
            status.history
        );
        assert_eq!(status.peers.iter().filter(|peer| peer.voter).count(), 4);
    }

    let url = format!("http://{}/", net.nodes[0].page);
    let screenshot = std::env::temp_dir().join("weal-page.png");
    match visit(&Visit {
        loss_points: 3,
        peers: 4,
        ..Visit::new(url, screenshot)
    }) {
        Ok(seen) => {
            assert!(seen.loss_points >= 3, "{seen:?}");
            assert!(seen.peers >= 4, "{seen:?}");
            assert!(seen.console_errors.is_empty(), "{seen:?}");
        }
        Err(error) if error.may_skip() => skip("the page in a browser", &error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

fn losses(net: &Net) -> Vec<f64> {
    let history = net
        .status(0)
        .map(|status| status.history)
        .unwrap_or_default();
    history
        .iter()
        .filter_map(|record| record.heldout_nats_per_byte)
        .collect()
}

#[test]
fn a_newcomer_joins_by_link_proves_what_it_fetched_contributes_and_is_counted() {
    let _alone = alone();
    let mut net = Net::start(4, quick_run());
    net.wait_for_rounds(3, 2 * MINUTE);
    let link = net.status(0).expect("a node that answers").run.link;
    let newcomer = net.join(&link);
    let peer = net.nodes[newcomer].peer.clone();
    net.wait_for(
        "the newcomer's contribution is decided",
        2 * MINUTE,
        |net| {
            let history = net
                .status(0)
                .map(|status| status.history)
                .unwrap_or_default();
            history
                .iter()
                .any(|record| record.contributors.contains(&peer))
        },
    );
    net.wait_for("the newcomer votes", 6 * MINUTE, |net| {
        let peers = net.status(0).map(|status| status.peers).unwrap_or_default();
        peers
            .iter()
            .any(|seen| seen.id == peer && seen.voter && seen.contributions > 0)
    });
    let rounds = net.rounds(newcomer);
    assert!(
        rounds > 3,
        "the newcomer has not caught up: {rounds} rounds"
    );
    assert!(net.assert_roots_agree() > 0);
}
