//! A newcomer computes the initial weights only once it is known that they are needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_coordinator_free::sim::fixtures::{key, manifest};
use weal_coordinator_free::{Config, Core, Input, Millis, Output, Record, Recovered, TimerId};
use weal_proto::{BlobHash, Decided, RoundNumber, Samples, StateRoot, Status, limits};

/// The core of a peer in a run whose only founder is peer 1, without weights.
fn without_weights(n: u8) -> (Core, Vec<Output>) {
    let recovered = Recovered::nothing(manifest(&[1]));
    let mut core = Core::new(Config::new(key(n)), recovered).expect("one founder can vote");
    let mut outputs = core.step(Millis(0), Input::Start);
    outputs.extend(core.step(Millis(0), Input::NoWeights));
    (core, outputs)
}

fn root(round: u64) -> StateRoot {
    (*blake3::hash(&round.to_le_bytes()).as_bytes()).into()
}

/// This many rounds, decided by the founder.
fn decided(rounds: u64) -> Vec<Decided> {
    let (mut core, _) = without_weights(1);
    let mut decided = Vec::new();
    for round in 0..rounds {
        let (round, root) = (RoundNumber(round), root(round));
        core.step(Millis(round.0 * 1000), Input::WeightsReady { round, root });
        let trained = Input::Trained {
            round,
            blob: BlobHash::from(*root.as_bytes()),
            blob_bytes: 5_000,
            samples: Samples(8),
        };
        for output in core.step(Millis(round.0 * 1000 + 500), trained) {
            if let Output::Persist(Record::Decided(round)) = output {
                decided.push(*round);
            }
        }
    }
    decided
}

/// What a peer reports that has decided this many rounds.
fn status(core: &Core, n: u8, decided_rounds: u64) -> Input {
    Input::PeerStatus {
        peer: key(n).peer(),
        status: Status {
            decided_rounds,
            weights_round: RoundNumber(decided_rounds),
            oldest_blobs_round: RoundNumber(0),
            rules: limits::RULES,
            newest: core.chain().parent(),
        },
    }
}

fn computes(outputs: &[Output]) -> bool {
    outputs.contains(&Output::ComputeInitialWeights)
}

#[test]
fn a_founder_without_weights_computes_them_at_once() {
    assert!(computes(&without_weights(1).1));
}

#[test]
fn a_newcomer_computes_them_once_it_has_caught_up_with_what_peers_claim() {
    let (mut core, outputs) = without_weights(2);
    assert!(!computes(&outputs));
    // Another newcomer knows no more.
    let said = status(&core, 3, 0);
    assert!(!computes(&core.step(Millis(10), said)));
    let said = status(&core, 1, 5);
    assert!(!computes(&core.step(Millis(20), said)));
    let mut rounds = decided(5);
    let last = rounds.split_off(4);
    assert!(!computes(&core.step(Millis(30), Input::Synced(rounds))));
    assert!(computes(&core.step(Millis(40), Input::Synced(last))));
    let said = status(&core, 1, 5);
    assert!(!computes(&core.step(Millis(50), said)), "once is enough");
}

#[test]
fn a_newcomer_computes_them_if_a_voter_has_not_decided_anything_yet() {
    let (mut core, _) = without_weights(2);
    let said = status(&core, 1, 0);
    assert!(computes(&core.step(Millis(10), said)));
}

#[test]
fn a_newcomer_computes_them_if_nobody_sends_what_peers_claim() {
    let (mut core, _) = without_weights(2);
    let said = status(&core, 3, u64::MAX);
    core.step(Millis(10), said);
    let mut nudged = |ms| computes(&core.step(Millis(ms), Input::TimerFired(TimerId::Nudge)));
    assert!(!nudged(9_000));
    assert!(nudged(10_000));
}

#[test]
fn a_newcomer_to_a_run_that_has_come_far_fetches_the_newest_checkpoint_and_computes_nothing() {
    let (mut core, _) = without_weights(2);
    let said = status(&core, 1, 100);
    let mut outputs = core.step(Millis(10), said);
    let mut rounds = decided(100);
    let last = rounds.split_off(64);
    // Two peers were asked.
    outputs.extend(core.step(Millis(20), Input::Synced(rounds.clone())));
    outputs.extend(core.step(Millis(25), Input::Synced(rounds)));
    let fetches = |output: &Output| match output {
        Output::FetchWeights { round, root } => Some((round.0, *root)),
        _ => None,
    };
    assert!(outputs.iter().all(|output| fetches(output).is_none()));
    outputs.extend(core.step(Millis(30), Input::Synced(last[..10].to_vec())));
    outputs.extend(core.step(Millis(40), Input::Synced(last[10..].to_vec())));
    outputs.extend(core.step(Millis(60_000), Input::TimerFired(TimerId::Nudge)));
    assert!(!computes(&outputs));
    let fetched: Vec<_> = outputs.iter().filter_map(fetches).collect();
    assert_eq!(fetched, [(64, root(64))]);
}

#[test]
fn a_newcomer_that_hears_no_more_rounds_fetches_what_it_knows_of() {
    let (mut core, _) = without_weights(2);
    core.step(Millis(10), Input::Synced(decided(70)));
    let mut nudged = |ms| core.step(Millis(ms), Input::TimerFired(TimerId::Nudge));
    let (round, root) = (RoundNumber(64), root(64));
    let fetch = Output::FetchWeights { round, root };
    assert!(!nudged(1_500).contains(&fetch));
    assert!(nudged(2_500).contains(&fetch));
}
