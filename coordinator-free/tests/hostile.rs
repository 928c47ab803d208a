//! Messages from strangers: each is dropped for the right cause, and none stops the core.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use weal_coordinator_free::sim::fixtures::{
    attestation, commitment, key, manifest, training_founder,
};
use weal_coordinator_free::{Acceptance, Core, DropCause, Event, Input, Millis, Output, TimerId};
use weal_proto::{
    Attestation, Certificate, Closed, Commitment, Decided, Envelope, Kind, Leave, LedgerRoot,
    Message, PeerId, Proposal, Recovery, Refusal, RoundNumber, RoundSet, RunId, SampleSpan,
    Samples, Signable, Signature, SlotId, Status, Ticket, Verdict, View, ViewCertificate,
    ViewSignature, Vote, VoteStep, limits,
};

const FOUNDERS: u8 = 4;

fn run() -> RunId {
    manifest(&[1, 2, 3, 4]).run()
}

/// The core of founder 1, training in round 0.
fn core() -> Core {
    let (core, _) = training_founder(Vec::new()).expect("founders can vote");
    core
}

fn vote(view: u32, value: Option<u8>) -> Vote {
    let value = value.map(|n| [n; 32].into());
    Vote {
        round: RoundNumber(0),
        view: View(view),
        step: VoteStep::Prevote,
        value,
    }
}

fn signed<M: Signable>(n: u8, message: &M) -> Envelope {
    Envelope::sign(&key(n), run(), message)
}

/// Gives the core a message. Returns why it was dropped, if it was, and its only verdict.
fn send(core: &mut Core, envelope: Envelope) -> (Option<DropCause>, Acceptance) {
    let outputs = core.step(Millis(1), Input::Received(envelope));
    let cause = outputs.iter().find_map(|output| match output {
        Output::Report(Event::Dropped { cause, .. }) => Some(*cause),
        _ => None,
    });
    let verdicts = verdicts(&outputs);
    assert_eq!(verdicts.len(), 1, "every message gets one verdict");
    (cause, verdicts[0])
}

fn verdicts(outputs: &[Output]) -> Vec<Acceptance> {
    let verdicts = outputs.iter().filter_map(|output| match output {
        Output::Verdict(acceptance) => Some(*acceptance),
        _ => None,
    });
    verdicts.collect()
}

#[test]
fn a_good_message_is_accepted_once() {
    let mut core = core();
    let envelope = signed(2, &commitment(0, 1));
    assert_eq!(
        send(&mut core, envelope.clone()),
        (None, Acceptance::Accept)
    );
    assert_eq!(
        send(&mut core, envelope),
        (Some(DropCause::Replayed), Acceptance::Ignore)
    );
}

#[test]
fn each_fault_is_dropped_for_its_own_cause() {
    let good = || signed(2, &commitment(0, 1));
    let other_run = Envelope::sign(&key(2), [9; 32].into(), &commitment(0, 1));
    let forged = Envelope {
        signer: key(3).peer(),
        ..good()
    };
    let oversized = Envelope {
        payload: vec![0; 1 << 12],
        ..good()
    };
    let truncated = Envelope {
        payload: good().payload[1..].to_vec(),
        ..good()
    };
    let too_big = signed(
        2,
        &Commitment {
            blob_bytes: u64::MAX,
            ..commitment(0, 1)
        },
    );
    let empty = signed(
        2,
        &Commitment {
            blob_bytes: 0,
            ..commitment(0, 1)
        },
    );
    let split = signed(2, &commitment_of_spans(0, &[(0, 5), (5, 1)]));
    let of_another_round = signed(2, &commitment_of_spans(7, &[(0, 5)]));
    let other = (1..=FOUNDERS).find(|n| *n != proposer(&core()));
    let not_proposer = proposed(other.expect("three founders are not the proposer"), 0);
    for (envelope, cause) in [
        (other_run, DropCause::WrongRun),
        (forged, DropCause::BadSignature),
        (oversized, DropCause::Oversized),
        (truncated, DropCause::Malformed),
        (too_big, DropCause::Invalid),
        (empty, DropCause::Invalid),
        (split, DropCause::Invalid),
        (of_another_round, DropCause::Invalid),
        (signed(9, &commitment(0, 1)), DropCause::NoPlace),
        (
            signed(
                9,
                &Closed {
                    round: RoundNumber(0),
                },
            ),
            DropCause::NotVoter,
        ),
        (
            signed(2, &attestation(0, limits::ATTEMPTS)),
            DropCause::FutureView,
        ),
        (signed(2, &a_ticket()), DropCause::Invalid),
        (
            Envelope {
                companion: Vec::new(),
                ..proposed(proposer(&core()), 0)
            },
            DropCause::Malformed,
        ),
        (
            Envelope {
                companion: vec![1],
                ..proposed(2, 0)
            },
            DropCause::Malformed,
        ),
        (signed(2, &commitment(2, 1)), DropCause::FutureRound),
        (signed(9, &vote(0, None)), DropCause::NotVoter),
        (signed(2, &vote(11, None)), DropCause::FutureView),
        (signed(9, &attestation(0, 0)), DropCause::NotMember),
        (
            signed(
                9,
                &Leave {
                    round: RoundNumber(0),
                },
            ),
            DropCause::NotMember,
        ),
        (not_proposer, DropCause::NotProposer),
    ] {
        let kind = envelope.kind;
        let (found, acceptance) = send(&mut core(), envelope);
        assert_eq!(found, Some(cause), "{kind:?}");
        assert_eq!(acceptance == Acceptance::Reject, cause.blames_sender());
    }
}

fn commitment_of_spans(seed_round: u64, spans: &[(u64, u64)]) -> Commitment {
    let span = |(first, count): &(u64, u64)| SampleSpan {
        seed_round: RoundNumber(seed_round),
        first: *first,
        count: *count,
    };
    Commitment {
        spans: spans.iter().map(span).collect(),
        ..commitment(0, 1)
    }
}

fn a_ticket() -> Ticket {
    Ticket {
        round: RoundNumber(0),
        nonce: 0,
    }
}

fn empty_set() -> RoundSet {
    RoundSet {
        round: RoundNumber(0),
        parent: (*run().as_bytes()).into(),
        base_root: [0; 32].into(),
        ledger_root: LedgerRoot::from([0; 32]),
        contributions: Vec::new(),
        attestations: Vec::new(),
        leaves: Vec::new(),
        evidence: Vec::new(),
        attempt: 0,
        named: Vec::new(),
        differences: Vec::new(),
        late: Vec::new(),
        tickets: Vec::new(),
        gone: Vec::new(),
    }
}

/// The proposal of a set, with the set beside it.
fn proposed_set(n: u8, set: &RoundSet, view: View, proof_of_lock: Option<View>) -> Envelope {
    let proposal = Proposal {
        round: set.round,
        view,
        proof_of_lock,
        value: set.hash(),
    };
    Envelope {
        companion: set.encode(),
        ..signed(n, &proposal)
    }
}

fn proposed(n: u8, view: u32) -> Envelope {
    proposed_set(n, &empty_set(), View(view), None)
}

/// The founder that proposes in view 0.
fn proposer(core: &Core) -> u8 {
    let turn = core.chain().ledger().roster().proposer(View(0));
    let founder = (1..=FOUNDERS).find(|n| Some(key(*n).peer()) == turn);
    founder.expect("a founder proposes")
}

#[test]
fn an_invalid_proposal_of_the_right_proposer_is_refused() {
    let mut core = core();
    let proposal = proposed(proposer(&core), 0);
    assert_eq!(send(&mut core, proposal).0, Some(DropCause::Invalid));
}

#[test]
fn a_ticket_is_kept_if_its_signer_needs_it_and_has_worked_for_it() {
    let bits = manifest(&[1, 2, 3, 4]).membership.ticket_bits;
    let from = a_ticket();
    let good = from.find(run(), key(9).peer(), bits).expect("few bits");
    let mut core = core();
    assert_eq!(send(&mut core, signed(9, &good)).0, None);
    assert_eq!(
        send(&mut core, signed(9, &good)).0,
        Some(DropCause::Replayed)
    );
    let stolen = signed(8, &good);
    let lacks_work = good.work_bits(run(), key(8).peer()) < bits;
    assert_eq!(
        send(&mut core, stolen).0,
        lacks_work.then_some(DropCause::Invalid)
    );
}

#[test]
fn a_view_certificate_without_its_votes_is_not_forwarded() {
    let mut core = core();
    let certificate = ViewCertificate {
        round: RoundNumber(0),
        view: View(1),
        polka: false,
        value: None,
        signatures: Vec::new(),
        precommits: false,
    };
    let (cause, acceptance) = send(&mut core, signed(2, &certificate));
    assert_eq!(
        (cause, acceptance),
        (Some(DropCause::Invalid), Acceptance::Reject)
    );
}

#[test]
fn the_first_contradiction_of_a_peer_is_forwarded_and_reported() {
    let mut core = core();
    send(&mut core, signed(2, &vote(0, None)));
    let input = Input::Received(signed(2, &vote(0, Some(1))));
    let outputs = core.step(Millis(2), input);
    let reported = Event::Equivocation {
        peer: key(2).peer(),
        round: RoundNumber(0),
        kind: Kind::Vote,
    };
    assert!(outputs.contains(&Output::Report(reported)));
    assert_eq!(verdicts(&outputs), [Acceptance::Accept]);
    assert_eq!(
        send(&mut core, signed(2, &vote(0, Some(2)))).0,
        Some(DropCause::Contradicted)
    );
}

#[test]
fn messages_of_a_far_round_make_the_core_ask_for_decided_rounds_but_not_too_often() {
    let mut core = core();
    let asks = |outputs: Vec<Output>| {
        outputs
            .iter()
            .filter(|o| matches!(o, Output::RequestDecided { .. }))
            .count()
    };
    let mut total = 0;
    for n in 0..100 {
        let envelope = signed(2, &commitment(1_000 + n, 1));
        total += asks(core.step(Millis(10), Input::Received(envelope)));
    }
    assert_eq!(total, 1);
}

#[test]
fn a_vote_with_this_nodes_key_from_elsewhere_is_reported() {
    let mut core = core();
    let envelope = signed(1, &vote(0, None));
    let outputs = core.step(Millis(2), Input::Received(envelope));
    let elsewhere = Event::OwnKeyElsewhere {
        round: RoundNumber(0),
        kind: Kind::Vote,
    };
    assert!(outputs.contains(&Output::Report(elsewhere)));
}

fn any_hash() -> impl Strategy<Value = [u8; 32]> {
    prop_oneof![Just([0; 32]), Just([1; 32]), any::<[u8; 32]>()]
}

fn any_round() -> impl Strategy<Value = RoundNumber> {
    prop_oneof![
        4 => Just(0),
        2 => Just(1),
        1 => 2..5_u64,
        1 => Just(u64::MAX),
        1 => Just(u64::MAX - 1),
    ]
    .prop_map(RoundNumber)
}

fn any_view() -> impl Strategy<Value = View> {
    prop_oneof![4 => 0..3_u32, 1 => 3..30_u32, 1 => Just(u32::MAX)].prop_map(View)
}

fn any_step() -> impl Strategy<Value = VoteStep> {
    prop_oneof![Just(VoteStep::Prevote), Just(VoteStep::Precommit)]
}

fn any_commitment() -> impl Strategy<Value = Commitment> {
    (
        any_round(),
        any_hash(),
        any_hash(),
        any::<u64>(),
        any::<u64>(),
    )
        .prop_map(|(round, base, blob, blob_bytes, samples)| Commitment {
            round,
            base_root: base.into(),
            blob: blob.into(),
            blob_bytes: blob_bytes % 2_000_000,
            spans: vec![SampleSpan {
                seed_round: round,
                first: 0,
                count: samples,
            }],
        })
}

fn any_attestation() -> impl Strategy<Value = Attestation> {
    let slots = prop::collection::btree_map(any::<u8>(), 0..Verdict::ALL.len(), 0..6);
    let attempt = prop_oneof![4 => Just(0), 2 => 1..4_u32, 1 => any::<u32>()];
    (any_round(), any_hash(), slots, attempt).prop_map(|(round, base, slots, attempt)| {
        let found = slots
            .into_iter()
            .map(|(slot, verdict)| (SlotId(slot), Verdict::ALL[verdict]));
        let (valid, refused): (Vec<_>, Vec<_>) =
            found.partition(|(_, verdict)| *verdict == Verdict::Valid);
        Attestation {
            round,
            base_root: base.into(),
            valid: valid.into_iter().map(|(slot, _)| slot).collect(),
            list: base.into(),
            refused: refused
                .into_iter()
                .map(|(slot, verdict)| Refusal { slot, verdict })
                .collect(),
            attempt,
            scores: Vec::new(),
        }
    })
}

fn any_vote() -> impl Strategy<Value = Vote> {
    (
        any_round(),
        any_view(),
        any_step(),
        prop::option::of(any_hash()),
    )
        .prop_map(|(round, view, step, value)| Vote {
            round,
            view,
            step,
            value: value.map(Into::into),
        })
}

fn any_view_certificate() -> impl Strategy<Value = ViewCertificate> {
    let signers = prop::collection::btree_map(
        1..=FOUNDERS,
        (any_step(), prop::option::of(any_hash())),
        0..5,
    );
    (
        any_round(),
        any_view(),
        any::<(bool, bool)>(),
        prop::option::of(any_hash()),
        signers,
    )
        .prop_map(|(round, view, (polka, precommits), value, signers)| {
            let value = value.map(Into::into);
            let mut signatures: Vec<_> = signers
                .into_iter()
                .map(|(n, (step, other))| {
                    let value = if polka { value } else { other.map(Into::into) };
                    let step = if polka { VoteStep::Prevote } else { step };
                    let signature = signed(
                        n,
                        &Vote {
                            round,
                            view,
                            step,
                            value,
                        },
                    )
                    .signature;
                    ViewSignature {
                        peer: key(n).peer(),
                        step,
                        value,
                        signature,
                    }
                })
                .collect();
            signatures.sort_by_key(|s| (s.peer, s.step));
            ViewCertificate {
                round,
                view,
                polka,
                value,
                signatures,
                precommits,
            }
        })
}

fn any_set() -> impl Strategy<Value = RoundSet> {
    let signers = || prop::collection::btree_set(1..=FOUNDERS, 0..5);
    (
        any_round(),
        any_hash(),
        signers(),
        signers(),
        any_commitment(),
        any_attestation(),
    )
        .prop_map(
            |(round, base, contributors, attesters, commitment, attestation)| {
                let core = core();
                let mut contributions: Vec<_> = contributors
                    .into_iter()
                    .map(|n| signed(n, &commitment))
                    .collect();
                contributions.sort_by_key(|envelope| envelope.signer);
                let mut attestations: Vec<_> = attesters
                    .into_iter()
                    .map(|n| signed(n, &attestation))
                    .collect();
                attestations.sort_by_key(|envelope| envelope.signer);
                RoundSet {
                    round,
                    parent: core.chain().parent(),
                    base_root: base.into(),
                    ledger_root: core.chain().ledger_root(),
                    contributions,
                    attestations,
                    ..empty_set()
                }
            },
        )
}

/// Anything from well-formed messages of members to noise.
fn any_envelope() -> impl Strategy<Value = Envelope> {
    let signer = || prop_oneof![6 => 1..=FOUNDERS, 1 => 5..9_u8];
    let proposal = (
        signer(),
        any_set(),
        any_view(),
        prop::option::of(any_view()),
    )
        .prop_map(|(n, set, view, proof_of_lock)| proposed_set(n, &set, view, proof_of_lock));
    let recovery = (any_round(), any_hash()).prop_map(|(round, hash)| Recovery {
        round,
        parent: hash.into(),
        base_root: hash.into(),
        gone: Vec::new(),
    });
    let ticket = (any_round(), any::<u64>()).prop_map(|(round, nonce)| Ticket { round, nonce });
    prop_oneof![
        (signer(), any_commitment()).prop_map(|(n, message)| signed(n, &message)),
        (signer(), any_attestation()).prop_map(|(n, message)| signed(n, &message)),
        (signer(), any_vote()).prop_map(|(n, message)| signed(n, &message)),
        proposal,
        (signer(), recovery).prop_map(|(n, message)| signed(n, &message)),
        (signer(), ticket).prop_map(|(n, message)| signed(n, &message)),
        (signer(), any_round()).prop_map(|(n, round)| signed(n, &Closed { round })),
        (signer(), any_view_certificate()).prop_map(|(n, message)| signed(n, &message)),
        (signer(), any_round()).prop_map(|(n, round)| signed(n, &Leave { round })),
        (
            signer(),
            0..Kind::ALL.len(),
            prop::collection::vec(any::<u8>(), 0..200)
        )
            .prop_map(|(n, kind, payload)| {
                let signature = Signature([3; 64]);
                Envelope {
                    kind: Kind::ALL[kind],
                    signer: key(n).peer(),
                    run: run(),
                    payload,
                    signature,
                    companion: Vec::new(),
                }
            }),
    ]
}

fn any_timer() -> impl Strategy<Value = TimerId> {
    (any_round(), any_view(), any_step(), 0..7_u8).prop_map(
        |(round, view, step, which)| match which {
            0 => TimerId::CommitClose(round),
            1 => TimerId::FetchClose(round),
            2 => TimerId::AttestClose(round),
            3 => TimerId::Nudge,
            4 => TimerId::Propose(round, view),
            5 => TimerId::Vote(round, view, step),
            _ => TimerId::Rebroadcast(round, view),
        },
    )
}

fn any_input() -> impl Strategy<Value = Input> {
    let decided = (any_set(), any_view(), any_hash()).prop_map(|(value, view, hash)| Decided {
        certificate: Certificate {
            round: value.round,
            view,
            value: hash.into(),
            signatures: Vec::new(),
        },
        value,
    });
    prop_oneof![
        12 => any_envelope().prop_map(Input::Received),
        2 => any_timer().prop_map(Input::TimerFired),
        1 => any_hash().prop_map(|hash| Input::Validated {
            commitment: hash.into(),
            verdict: Verdict::Valid,
        }),
        1 => prop::collection::vec(decided, 0..3).prop_map(Input::Synced),
        1 => (any_round(), any_hash()).prop_map(|(round, root)| Input::WeightsReady {
            round,
            root: root.into(),
        }),
        1 => (any_round(), any_hash()).prop_map(|(round, blob)| {
            Input::Trained { round, blob: blob.into(), blob_bytes: 100, samples: Samples(1) }
        }),
        1 => any_round().prop_map(|round| Input::ApplyFailed { round }),
        1 => (1..9_u8).prop_map(|n| Input::Recover { gone: vec![key(n).peer()] }),
        1 => any::<u64>().prop_map(|decided_rounds| Input::PeerStatus {
            peer: PeerId::from([1; 32]),
            status: Status {
                decided_rounds,
                weights_round: RoundNumber(0),
                oldest_blobs_round: RoundNumber(0),
                rules: limits::RULES,
                newest: [0; 32].into(),
            },
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_inputs_stops_the_core(
        inputs in prop::collection::vec((any_input(), 0..3_000_u64), 1..60),
    ) {
        let mut core = core();
        let mut now = Millis(0);
        for (input, later) in inputs {
            now = now.after(later);
            let is_message = matches!(input, Input::Received(_));
            let outputs = core.step(now, input);
            prop_assert_eq!(verdicts(&outputs).len(), usize::from(is_message));
            prop_assert_eq!(core.check_invariants(), Ok(()));
        }
        let messages = core.round_messages(core.chain().round(), limits::RESPONSE_BYTES);
        prop_assert!(messages.iter().all(|envelope| envelope.verify(run()).is_ok()));
        prop_assert!(core.view().peers.len() >= usize::from(FOUNDERS));
    }

    #[test]
    fn every_message_that_is_not_dropped_has_a_good_signature(envelope in any_envelope()) {
        let good = envelope.verify(run()).is_ok();
        let (cause, acceptance) = send(&mut core(), envelope);
        prop_assert!(good || cause.is_some());
        prop_assert_eq!(acceptance == Acceptance::Accept, cause.is_none());
    }

    #[test]
    fn a_message_with_a_flipped_bit_is_dropped(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = signed(2, &commitment(0, 1)).encode();
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if let Ok(envelope) = Envelope::decode(&bytes) {
            prop_assert!(send(&mut core(), envelope).0.is_some());
        }
    }
}
