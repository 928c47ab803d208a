//! A voter that was away follows the others within a round, however many attempts and views they
//! are ahead; and a round in which nobody can propose is attested again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_coordinator_free::sim::fixtures::{
    attestation, commitment, key, manifest, training_founder,
};
use weal_coordinator_free::{Core, DropCause, Event, Input, Millis, Output, Phase, TimerId};
use weal_proto::{
    Attestation, Closed, Envelope, ListHash, PlaceSet, RoundNumber, RunId, Signable, SlotId, View,
    ViewCertificate, ViewSignature, Vote, VoteStep,
};

const ROUND: RoundNumber = RoundNumber(0);

fn run() -> RunId {
    manifest(&[1, 2, 3, 4]).run()
}

/// The core of founder 1, which has trained nothing and waits for attestations.
fn attesting() -> Core {
    let (mut core, _) = training_founder(Vec::new()).expect("founders can vote");
    for n in 2..=4 {
        send(&mut core, n, &Closed { round: ROUND });
    }
    assert_eq!(core.view().phase, Phase::Attesting);
    core
}

fn send<M: Signable>(core: &mut Core, n: u8, message: &M) -> Vec<Output> {
    let envelope = Envelope::sign(&key(n), run(), message);
    core.step(Millis(20), Input::Received(envelope))
}

/// The attempts in which a core attests in these outputs.
fn attempts(outputs: &[Output]) -> Vec<u32> {
    let attempt = |output: &Output| match output {
        Output::Broadcast(envelope) => Some(envelope.open::<Attestation>().ok()?.attempt),
        _ => None,
    };
    outputs.iter().filter_map(attempt).collect()
}

fn attest_time_is_up(core: &mut Core) -> Vec<Output> {
    core.step(
        Millis(60_000),
        Input::TimerFired(TimerId::AttestClose(ROUND)),
    )
}

/// Proof that founders 2 to 4 precommitted to nothing in this view.
fn precommits(view: View) -> ViewCertificate {
    let vote = Vote {
        round: ROUND,
        view,
        step: VoteStep::Precommit,
        value: None,
    };
    let signature = |n: u8| ViewSignature {
        peer: key(n).peer(),
        step: VoteStep::Precommit,
        value: None,
        signature: Envelope::sign(&key(n), run(), &vote).signature,
    };
    let mut signatures: Vec<_> = (2..=4).map(signature).collect();
    signatures.sort_by_key(|one| one.peer);
    ViewCertificate {
        round: ROUND,
        view,
        polka: false,
        value: None,
        signatures,
        precommits: true,
    }
}

#[test]
fn a_voter_follows_a_third_of_the_weight_to_any_attempt() {
    let mut core = attesting();
    assert!(attempts(&send(&mut core, 2, &attestation(7, 40))).is_empty());
    let outputs = send(&mut core, 3, &attestation(8, 30));
    assert_eq!(attempts(&outputs), [30]);
}

#[test]
fn a_member_may_be_far_ahead_in_one_attempt_only() {
    let mut core = attesting();
    let dropped = |outputs: Vec<Output>| {
        outputs.iter().any(|output| {
            let Output::Report(Event::Dropped { cause, .. }) = output else {
                return false;
            };
            *cause == DropCause::FutureView
        })
    };
    assert!(!dropped(send(&mut core, 2, &attestation(7, 40))));
    assert!(dropped(send(&mut core, 2, &attestation(7, 41))));
    assert!(!dropped(send(&mut core, 2, &attestation(7, 2))));
}

#[test]
fn a_round_may_take_any_number_of_attempts() {
    let mut core = attesting();
    for attempt in 0..200 {
        send(&mut core, 2, &attestation(7, attempt));
        send(&mut core, 3, &attestation(8, attempt));
        send(&mut core, 4, &attestation(9, attempt));
        assert_eq!(attempts(&attest_time_is_up(&mut core)), [attempt + 1]);
    }
    let kept = core.round_messages(ROUND, usize::MAX);
    let kept = kept.iter().filter(|it| it.open::<Attestation>().is_ok());
    assert!(kept.count() < 100, "memory is bounded");
}

#[test]
fn a_voter_follows_proof_of_a_later_view_however_far_ahead_it_is() {
    let mut core = attesting();
    for n in 2..=4 {
        send(&mut core, n, &attestation(0, 0));
    }
    assert_eq!(core.view().phase, Phase::Deciding);
    send(&mut core, 2, &precommits(View(50)));
    assert!(core.view().view >= Some(View(50)), "{:?}", core.view().view);
}

#[test]
fn if_nobody_can_tell_what_the_attestations_speak_of_everyone_attests_again() {
    let mut core = attesting();
    // The others found a contribution valid whose commitment nobody sends.
    let slot = SlotId(0);
    let commitment = Envelope::sign(&key(2), run(), &commitment(0, 1));
    let unknown = Attestation {
        valid: PlaceSet::from_iter([slot]),
        list: ListHash::of([(slot, commitment.payload_hash())]),
        ..attestation(0, 0)
    };
    for n in 2..=4 {
        send(&mut core, n, &unknown);
    }
    assert_eq!(core.view().phase, Phase::Deciding);
    assert_eq!(attempts(&attest_time_is_up(&mut core)), [1]);
    for n in 2..=4 {
        send(&mut core, n, &attestation(0, 1));
    }
    assert!(
        attempts(&attest_time_is_up(&mut core)).is_empty(),
        "settled"
    );
}
