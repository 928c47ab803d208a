//! The testnet of `deploy/`: four containers train, one is killed, the others continue, and the
//! killed one comes back to the same weights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weal::status_client;
use weal_testing::require;
use weal_tests::compose::{Compose, NODES};

/// Small rounds, so that two cores are enough for four containers.
const FLAGS: &str = "--steps 2 --train-seconds 5";
/// A container starts slowly on a busy machine, and its first round waits for the last one.
const PATIENCE: Duration = Duration::from_secs(240);
/// Which container is killed.
const VICTIM: usize = 2;

#[test]
fn four_containers_train_and_one_that_is_killed_comes_back_to_the_same_weights() {
    let testnet = match Compose::up(FLAGS) {
        Ok(testnet) => testnet,
        Err(why) => return require::skip("the compose testnet", &why),
    };
    testnet.wait_for("two rounds decided everywhere", PATIENCE, |testnet| {
        least_rounds(testnet) >= 2
    });
    assert!(rounds_agreed(&testnet) >= 2);
    testnet.wait_for("every container healthy", PATIENCE, |testnet| {
        (0..NODES).all(|node| testnet.health(node) == "healthy")
    });
    let page = status_client::status(testnet.page()).expect("node 1's page is published");
    assert_eq!(page.peers.len(), NODES, "the page lists {:?}", page.peers);

    testnet.kill(VICTIM);
    let other = (VICTIM + 1) % NODES;
    let before = testnet.rounds(other);
    testnet.wait_for("two more rounds of the others", PATIENCE, |testnet| {
        testnet.rounds(other) >= before + 2
    });
    assert!(
        testnet.status(VICTIM).is_none(),
        "the killed container still answers"
    );

    testnet.start(VICTIM);
    let missed = testnet.rounds(other);
    testnet.wait_for("the killed container catches up", PATIENCE, |testnet| {
        testnet.rounds(VICTIM) >= missed
    });
    assert!(rounds_agreed(&testnet) as u64 >= missed.min(3));
}

fn least_rounds(testnet: &Compose) -> u64 {
    (0..NODES)
        .map(|node| testnet.rounds(node))
        .min()
        .unwrap_or(0)
}

/// Asserts that all containers have the same weights after each round. Returns the number of rounds
/// whose weights all containers know.
fn rounds_agreed(testnet: &Compose) -> usize {
    let mut roots: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for node in 0..NODES {
        let status = testnet
            .status(node)
            .unwrap_or_else(|| panic!("container {} does not answer", node + 1));
        for record in status.history {
            roots.entry(record.round).or_default().push(record.root);
        }
    }
    for (round, roots) in &roots {
        assert_eq!(
            roots.iter().collect::<BTreeSet<_>>().len(),
            1,
            "weights differ after round {round}: {roots:?}"
        );
    }
    roots.values().filter(|roots| roots.len() == NODES).count()
}
