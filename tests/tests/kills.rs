//! Power cuts at any instant, also of nodes that are only coming back from the one before: the
//! network goes on, everybody comes back to the same weights, and no node ever equivocates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::thread;
use std::time::{Duration, Instant};

use weal_testing::require::full;
use weal_tests::net::{Net, quick_run};
use weal_tests::observer::Observer;

/// Power cuts, and power cuts in full.
const CUTS: [u64; 2] = [8, 1_000];
/// Power cuts one after another, until all nodes must have come back.
const CUTS_AT_ONCE: usize = 8;
/// The longest time from a start, or from a power cut, to the next power cut.
const LONGEST_PAUSE_MS: u64 = 1_500;
const PATIENCE: Duration = Duration::from_secs(120);

/// What is drawn for each power cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    victim: usize,
    /// Since the node before was started again. What the victim is doing is up to chance.
    pause: Duration,
    /// Whether it comes back only after the others have decided a round without it.
    is_missed: bool,
}

impl Cut {
    fn draw(cut: u64) -> Self {
        Self {
            victim: draw(3 * cut, 4) as usize,
            pause: Duration::from_millis(draw(3 * cut + 1, LONGEST_PAUSE_MS)),
            is_missed: draw(3 * cut + 2, 4) == 0,
        }
    }
}

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
    // The others wait for a node that is away. The test spends its time on that.
    run.timing.train_seconds = 2.5;
    run.timing.fetch_seconds = 2.0;
    run.timing.attest_seconds = 1.5;
    // However often one is away, all stay voters, with much the same weight: any three can go on.
    run.membership.absence_rounds = 1_000;
    run.membership.weight_decay = 0.999_999;
    let mut net = Net::start(4, run);
    net.wait_for_rounds(2, PATIENCE);
    let addresses = net.status(0).expect("a node that answers").run.link;
    let link: weal::link::RunLink = addresses.parse().expect("a link");
    let observer = Observer::start(net.manifest.run(), link.peers);
    let cuts: Vec<_> = (0..CUTS[usize::from(full())]).map(Cut::draw).collect();
    let (started, mut so_far) = (Instant::now(), 0);
    for cuts in cuts.chunks(CUTS_AT_ONCE) {
        for cut in cuts {
            thread::sleep(cut.pause);
            net.kill(cut.victim);
            if cut.is_missed {
                let before = net.most_rounds();
                net.wait_for("the others to go on", PATIENCE, |net| {
                    net.most_rounds() > before
                });
            }
            net.launch(cut.victim);
        }
        // Everybody comes back, and decides a round together.
        let rounds = net.most_rounds();
        net.wait_for_rounds(rounds + 1, PATIENCE);
        assert!(net.assert_roots_agree() > 0);
        assert_eq!(observer.contradictions(), Vec::<String>::new());
        so_far += cuts.len();
        let seconds = started.elapsed().as_secs();
        println!("{so_far} power cuts, {rounds} rounds, {seconds} s");
    }
    assert!(
        observer.heard() > 100,
        "the observer heard only {} messages",
        observer.heard()
    );
}
