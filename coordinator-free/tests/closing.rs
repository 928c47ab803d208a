//! Nothing is revealed before two thirds of the weight take no more commitments.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_coordinator_free::sim::fixtures::{
    attestation, commitment, key, manifest, peer, training_founder,
};
use weal_coordinator_free::{
    Core, DropCause, Event, Input, Millis, Output, Phase, Record, TimerId,
};
use weal_proto::{Closed, Envelope, Kind, Leave, RoundNumber, Samples, Signable};

const ROUND: RoundNumber = RoundNumber(0);

/// The core of founder 1, which has trained and committed.
fn committed(records: Vec<Record>) -> (Core, Vec<Output>) {
    let (mut core, mut outputs) = training_founder(records).expect("founders can vote");
    let trained = Input::Trained {
        round: ROUND,
        blob: [1; 32].into(),
        blob_bytes: 1_000,
        samples: Samples(10),
    };
    outputs.extend(core.step(Millis(10), trained));
    (core, outputs)
}

fn send<M: Signable>(core: &mut Core, n: u8, message: &M) -> Vec<Output> {
    let envelope = Envelope::sign(&key(n), manifest(&[1, 2, 3, 4]).run(), message);
    core.step(Millis(20), Input::Received(envelope))
}

fn close(core: &mut Core, n: u8) -> Vec<Output> {
    send(core, n, &Closed { round: ROUND })
}

fn reveals(outputs: &[Output]) -> bool {
    let reveal = |output: &Output| matches!(output, Output::Reveal { .. });
    outputs.iter().any(reveal)
}

fn fetched(outputs: &[Output]) -> Vec<u8> {
    let fetches = outputs.iter().filter_map(|output| match output {
        Output::Fetch(fetch) => (1..=9).find(|n| peer(*n) == fetch.peer),
        _ => None,
    });
    let mut fetched: Vec<_> = fetches.collect();
    fetched.sort_unstable();
    fetched
}

fn sends(outputs: &[Output], kind: Kind) -> bool {
    let sent = |output: &Output| matches!(output, Output::Broadcast(it) if it.kind == kind);
    outputs.iter().any(sent)
}

#[test]
fn a_victim_that_has_all_commitments_reveals_nothing_while_others_are_open() {
    let (mut core, _) = committed(Vec::new());
    for n in 2..=4 {
        assert!(!reveals(&send(&mut core, n, &commitment(0, n))));
    }
    assert_eq!(core.view().phase, Phase::Closing);
    assert!(!reveals(&close(&mut core, 2)), "half of the weight");
    let outputs = close(&mut core, 3);
    assert!(reveals(&outputs));
    assert_eq!(fetched(&outputs), [2, 3, 4]);
}

#[test]
fn a_node_closes_with_two_thirds_of_the_voters_and_what_comes_later_is_late() {
    let (mut core, _) = committed(Vec::new());
    send(&mut core, 2, &commitment(0, 2));
    close(&mut core, 2);
    assert_eq!(core.view().phase, Phase::Committing);
    close(&mut core, 3);
    let outputs = close(&mut core, 4);
    assert!(sends(&outputs, Kind::Closed) && reveals(&outputs));
    assert_eq!(fetched(&outputs), [2]);
    let late = send(&mut core, 3, &commitment(0, 3));
    assert_eq!(fetched(&late), [0_u8; 0]);
}

#[test]
fn after_a_restart_only_what_was_stored_as_in_time_is_in_time() {
    let (mut core, mut outputs) = committed(Vec::new());
    outputs.extend(send(&mut core, 2, &commitment(0, 2)));
    outputs.extend(core.step(
        Millis(60_000),
        Input::TimerFired(TimerId::CommitClose(ROUND)),
    ));
    let records = outputs.into_iter().filter_map(|output| match output {
        Output::Persist(record) => Some(record),
        _ => None,
    });
    let (mut core, again) = committed(records.collect());
    assert!(sends(&again, Kind::Closed));
    assert_eq!(core.view().phase, Phase::Closing);
    send(&mut core, 3, &commitment(0, 3));
    close(&mut core, 2);
    assert_eq!(fetched(&close(&mut core, 4)), [2]);
}

#[test]
fn voters_that_split_about_the_base_root_attest_again() {
    let (mut core, _) = committed(Vec::new());
    for n in 2..=4 {
        close(&mut core, n);
    }
    assert_eq!(core.view().phase, Phase::Attesting);
    send(&mut core, 2, &attestation(0, 0));
    send(&mut core, 3, &attestation(7, 0));
    send(&mut core, 4, &attestation(8, 0));
    let time_is_up = Input::TimerFired(TimerId::AttestClose(ROUND));
    let outputs = core.step(Millis(9_000), time_is_up);
    let again = Event::AttestedAgain {
        round: ROUND,
        attempt: 1,
    };
    assert!(outputs.contains(&Output::Report(again)));
    assert!(sends(&outputs, Kind::Attestation));
    // With two more in the second attempt, voters agree and the agreement begins.
    send(&mut core, 2, &attestation(0, 1));
    send(&mut core, 3, &attestation(0, 1));
    let time_is_up = Input::TimerFired(TimerId::AttestClose(ROUND));
    core.step(Millis(20_000), time_is_up);
    assert_eq!(core.view().phase, Phase::Deciding);
}

#[test]
fn a_member_that_goes_on_after_its_leave_is_waited_for_again() {
    let (mut core, _) = committed(Vec::new());
    send(&mut core, 2, &Leave { round: ROUND });
    let expected = |core: &Core| {
        let peers = core.view().peers;
        peers.iter().any(|it| it.peer == peer(2) && it.expected)
    };
    assert!(!expected(&core));
    // Its leave is for this round, so its commitment of this round does not take it back.
    send(&mut core, 2, &commitment(0, 2));
    assert!(!expected(&core));
    let again = send(&mut core, 2, &Leave { round: ROUND });
    let replayed = again.iter().any(|output| {
        matches!(
            output,
            Output::Report(Event::Dropped {
                cause: DropCause::Replayed,
                ..
            })
        )
    });
    assert!(replayed);
}
