//! A founder that comes back with its key and an empty store signs nothing before it has asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_coordinator_free::sim::fixtures::{key, manifest};
use weal_coordinator_free::{Config, Core, Input, Millis, Output, Record, Recovered, TimerId};
use weal_proto::{RoundNumber, Status, limits};

/// A founder's core with the weights of round 0 in memory and, without the right to begin, no
/// record of the run. Returns what it asked for as well.
fn started(founders: &[u8], genesis: bool) -> (Core, Vec<Output>) {
    let recovered = Recovered {
        genesis,
        ..Recovered::nothing(manifest(founders))
    };
    let mut core = Core::new(Config::new(key(1)), recovered).expect("founders can vote");
    let mut outputs = core.step(Millis(0), Input::Start);
    let (round, root) = (RoundNumber(0), [0; 32].into());
    outputs.extend(core.step(Millis(0), Input::WeightsReady { round, root }));
    (core, outputs)
}

fn status(core: &mut Core, peer: u8, decided_rounds: u64) -> Vec<Output> {
    let status = Status {
        decided_rounds,
        weights_round: RoundNumber(decided_rounds),
        oldest_blobs_round: RoundNumber(0),
        rules: limits::RULES,
        newest: [0; 32].into(),
    };
    let peer = key(peer).peer();
    core.step(Millis(1), Input::PeerStatus { peer, status })
}

fn trains(outputs: &[Output]) -> bool {
    outputs
        .iter()
        .any(|output| matches!(output, Output::Train { .. }))
}

fn signs(outputs: &[Output]) -> bool {
    let own = |record: &Record| !matches!(record, Record::Decided(_));
    outputs.iter().any(|output| match output {
        Output::Broadcast(_) => true,
        Output::Persist(record) => own(record),
        _ => false,
    })
}

#[test]
fn the_creator_of_a_run_begins_alone() {
    let (_, outputs) = started(&[1], true);
    assert!(trains(&outputs));
}

#[test]
fn the_only_founder_without_its_record_waits_whatever_strangers_say() {
    let (mut core, outputs) = started(&[1], false);
    assert!(!trains(&outputs) && core.waits_to_hear());
    for stranger in 10..50 {
        assert!(!trains(&status(&mut core, stranger, 0)));
    }
    // It asks for what it lost.
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::RequestDecided { .. }))
    );
    assert!(!signs(&core.step(Millis(2), Input::Leave)));
}

#[test]
fn a_founder_that_joins_begins_once_enough_founders_are_at_round_0() {
    let (mut core, outputs) = started(&[1, 2, 3, 4], false);
    assert!(!trains(&outputs));
    assert!(!trains(&status(&mut core, 9, 0)), "a stranger");
    assert!(!trains(&status(&mut core, 2, 0)), "a quarter of the weight");
    assert!(!trains(&status(&mut core, 3, 7)), "it is ahead");
    status(&mut core, 4, 0);
    // Half of the weight is there. The peer that is ahead gets 3 s to prove it.
    let nudge = Input::TimerFired(TimerId::Nudge);
    assert!(trains(&core.step(Millis(4_000), nudge)));
}

#[test]
fn a_peer_without_a_vote_begins_at_once() {
    let (core, outputs) = started(&[2, 3], false);
    assert!(!core.waits_to_hear());
    // It has no place, so it begins by asking for a ticket.
    let asks = |output: &Output| matches!(output, Output::FindTicket { .. });
    assert!(outputs.iter().any(asks));
}
