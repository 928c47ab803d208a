//! Going on when more than a third of the weight is gone, and stopping when there are two
//! histories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_coordinator_free::sim::fixtures::{key, manifest, peer};
use weal_coordinator_free::{Config, Core, Input, Millis, Output, Record, Recovered, TimerId};
use weal_proto::{BlobHash, Decided, Envelope, Kind, RoundNumber, Samples};

const FOUNDERS: [u8; 5] = [1, 2, 3, 4, 5];

fn core(n: u8, founders: &[u8]) -> Core {
    let recovered = Recovered::nothing(manifest(founders));
    let mut core = Core::new(Config::new(key(n)), recovered).expect("founders can vote");
    core.step(Millis(0), Input::Start);
    core.step(Millis(0), ready(0));
    core
}

fn ready(round: u64) -> Input {
    Input::WeightsReady {
        round: RoundNumber(round),
        root: [0; 32].into(),
    }
}

/// The operator of peer `n` declares 4 and 5 gone, in a round that is stuck. Returns what it signs.
fn declares(n: u8) -> (Core, Option<Envelope>) {
    let mut core = core(n, &FOUNDERS);
    let gone = vec![peer(4), peer(5)];
    let mut outputs = core.step(Millis(1), Input::Recover { gone });
    let nudge = Input::TimerFired(TimerId::Nudge);
    outputs.extend(core.step(Millis(59_000), nudge.clone()));
    assert!(recoveries(&outputs).is_empty(), "too early");
    let outputs = core.step(Millis(61_000), nudge);
    let signed = recoveries(&outputs).pop();
    (core, signed)
}

fn recoveries(outputs: &[Output]) -> Vec<Envelope> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Broadcast(envelope) if envelope.kind == Kind::Recovery => Some(envelope.clone()),
        _ => None,
    });
    sent.collect()
}

fn decided(outputs: &[Output]) -> Vec<Decided> {
    let decided = outputs.iter().filter_map(|output| match output {
        Output::Persist(Record::Decided(decided)) => Some(decided.as_ref().clone()),
        _ => None,
    });
    decided.collect()
}

#[test]
fn voters_with_more_than_half_of_the_weight_go_on_and_everyone_can_verify_it() {
    let (mut first, own) = declares(1);
    assert!(own.is_some());
    let (_, second) = declares(2);
    let (_, third) = declares(3);
    let outputs = first.step(Millis(61_001), Input::Received(second.unwrap()));
    assert!(decided(&outputs).is_empty(), "two fifths of the weight");
    let outputs = first.step(Millis(61_002), Input::Received(third.unwrap()));
    let proof = decided(&outputs);
    assert_eq!(proof.len(), 1);
    let ledger = first.chain().ledger();
    assert_eq!(ledger.roster().len(), 3);
    assert!(!ledger.roster().contains(&peer(4)));

    let mut anyone = core(9, &FOUNDERS);
    anyone.step(Millis(5), Input::Synced(proof.clone()));
    assert_eq!(anyone.chain().round(), RoundNumber(1));
    assert_eq!(anyone.chain().ledger_root(), first.chain().ledger_root());

    let mut fewer = proof.clone();
    fewer[0].certificate.signatures.pop();
    let mut other = proof;
    other[0].value.base_root = [9; 32].into();
    other[0].certificate.value = other[0].value.hash();
    for forged in [fewer, other] {
        let mut anyone = core(9, &FOUNDERS);
        anyone.step(Millis(5), Input::Synced(forged));
        assert_eq!(anyone.chain().round(), RoundNumber(0));
    }
}

#[test]
fn an_operator_who_names_a_stranger_or_itself_signs_nothing() {
    for gone in [vec![peer(9)], vec![peer(1), peer(4)]] {
        let mut core = core(1, &FOUNDERS);
        core.step(Millis(1), Input::Recover { gone });
        let nudge = Input::TimerFired(TimerId::Nudge);
        assert!(recoveries(&core.step(Millis(90_000), nudge)).is_empty());
    }
}

/// The only founder decides this many rounds, with contributions of this blob.
fn history(blob: u8, rounds: u64) -> Vec<Decided> {
    let mut founder = core(1, &[1]);
    let mut all = Vec::new();
    for round in 0..rounds {
        founder.step(Millis(round * 1_000), ready(round));
        let trained = Input::Trained {
            round: RoundNumber(round),
            blob: BlobHash::from([blob; 32]),
            blob_bytes: 5_000,
            samples: Samples(8),
        };
        all.extend(decided(&founder.step(Millis(round * 1_000 + 500), trained)));
    }
    assert_eq!(all.len() as u64, rounds);
    all
}

#[test]
fn a_node_that_sees_two_decisions_of_one_round_stops_with_the_proof() {
    let (ours, theirs) = (history(1, 3), history(2, 4));
    let mut node = core(2, &[1]);
    node.step(Millis(1), Input::Synced(ours.clone()));
    // A round that follows another history makes it ask for the rounds before.
    let outputs = node.step(Millis(2), Input::Synced(vec![theirs[3].clone()]));
    let from_round = RoundNumber(0);
    assert!(outputs.contains(&Output::RequestDecided { from_round }));
    let outputs = node.step(Millis(3), Input::Synced(theirs.clone()));
    let halt = outputs.iter().find_map(|output| match output {
        Output::Halt(conflict) => Some(conflict),
        _ => None,
    });
    let conflict = halt.expect("two histories");
    assert_eq!(conflict.round, RoundNumber(0));
    assert_eq!(conflict.ours, ours[0].value.hash());
    assert_eq!(conflict.theirs, theirs[0]);
    assert!(node.step(Millis(4), ready(3)).is_empty(), "it has stopped");
}

#[test]
fn the_same_history_again_stops_nobody() {
    let ours = history(1, 3);
    let mut node = core(2, &[1]);
    node.step(Millis(1), Input::Synced(ours.clone()));
    let outputs = node.step(Millis(2), Input::Synced(ours));
    let halts = outputs.iter().any(|it| matches!(it, Output::Halt(_)));
    assert!(!halts && node.chain().round() == RoundNumber(3));
}
