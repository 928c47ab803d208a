//! Power cuts at any instant: the other nodes continue, the killed one comes back to the same
//! weights, and no node ever equivocates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use weal_testing::require::full;
use weal_tests::net::{Net, quick_run};
use weal_tests::observer::Observer;

/// Power cuts, and power cuts in full.
const KILLS: [u64; 2] = [8, 1_000];
const PATIENCE: Duration = Duration::from_secs(120);

/// A fixed sequence that looks random. It decides which node is killed, and when.
fn draw(step: u64, below: u64) -> u64 {
    let mut x = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) % below
}

#[test]
fn power_cuts_lose_nothing_and_no_node_equivocates() {
    let mut run = quick_run();
    // The others wait once for each killed node. The test spends its time on that.
    run.timing.train_seconds = 2.5;
    run.timing.fetch_seconds = 2.0;
    run.timing.attest_seconds = 1.5;
    let mut net = Net::start(4, run);
    net.wait_for_rounds(2, PATIENCE);
    let addresses = net.status(0).expect("a node that answers").run.link;
    let link: weal::link::RunLink = addresses.parse().expect("a link");
    let observer = Observer::start(net.manifest.run(), link.peers);
    for kill in 0..KILLS[usize::from(full())] {
        let victim = draw(2 * kill, 4) as usize;
        // The kill comes at any point of a round; what the process is doing then is up to chance.
        let instant = Duration::from_millis(draw(2 * kill + 1, 1500));
        let until = std::time::Instant::now() + instant;
        net.wait_for("the instant of the power cut", PATIENCE, |_| {
            std::time::Instant::now() >= until
        });
        net.kill(victim);
        let other = (victim + 1) % 4;
        let before = net.rounds(other);
        net.wait_for("the others to continue", PATIENCE, |net| {
            net.rounds(other) > before
        });
        net.launch(victim);
        let target = net.rounds(other);
        net.wait_for("the killed node catches up", PATIENCE, |net| {
            net.rounds(victim) >= target
        });
    }
    let rounds = net.rounds(0);
    net.wait_for_rounds(rounds + 1, PATIENCE);
    assert!(net.assert_roots_agree() > 0);
    assert_eq!(observer.contradictions(), Vec::<String>::new());
    assert!(
        observer.heard() > 100,
        "the observer heard only {} messages",
        observer.heard()
    );
}
