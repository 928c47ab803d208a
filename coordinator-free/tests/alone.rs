//! One peer alone: the order in which a round's outputs come, and what survives a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_coordinator_free::sim::fixtures::{commitment, key, manifest};
use weal_coordinator_free::{
    Acceptance, Config, Core, History, Input, Invalid, Millis, Output, Phase, Record, Recovered,
    TimerId,
};
use weal_proto::{
    BlobHash, Decided, Envelope, Kind, Message, RoundNumber, Samples, StateRoot, Ticket, limits,
};

/// A core that has never run, in a run whose only founder is peer 1.
fn new_core(n: u8) -> Core {
    let recovered = Recovered::nothing(manifest(&[1]));
    Core::new(Config::new(key(n)), recovered).expect("one founder can decide alone")
}

/// The core of peer 1, after a restart with these records on disk.
fn restarted(records: Vec<Record>) -> Core {
    let recovered = Recovered {
        records,
        ..Recovered::nothing(manifest(&[1]))
    };
    Core::new(Config::new(key(1)), recovered).expect("the core can read what it persisted")
}

fn root(round: u64) -> StateRoot {
    (*blake3::hash(&round.to_le_bytes()).as_bytes()).into()
}

fn ready(round: u64) -> Input {
    Input::WeightsReady {
        round: RoundNumber(round),
        root: root(round),
    }
}

fn trained(round: u64) -> Input {
    let blob = BlobHash::from([u8::try_from(round).unwrap_or(255); 32]);
    Input::Trained {
        round: RoundNumber(round),
        blob,
        blob_bytes: 5_000,
        samples: Samples(8),
    }
}

/// Lets the only founder decide this many rounds.
fn decide(core: &mut Core, rounds: u64) -> Vec<Decided> {
    core.step(Millis(0), Input::Start);
    let mut decided = Vec::new();
    for round in 0..rounds {
        core.step(Millis(round * 1000), ready(round));
        for output in core.step(Millis(round * 1000 + 500), trained(round)) {
            if let Output::Persist(Record::Decided(round)) = output {
                decided.push(*round);
            }
        }
    }
    decided
}

fn position(outputs: &[Output], what: impl Fn(&Output) -> bool) -> usize {
    outputs
        .iter()
        .position(what)
        .unwrap_or_else(|| panic!("missing in {outputs:#?}"))
}

fn sends(kind: Kind) -> impl Fn(&Output) -> bool {
    move |output| matches!(output, Output::Broadcast(envelope) if envelope.kind == kind)
}

#[test]
fn training_begins_when_the_weights_are_in_memory() {
    let mut core = new_core(1);
    let started = core.step(Millis(5), Input::Start);
    assert!(started.iter().any(|output| matches!(
        output,
        Output::SetTimer {
            id: TimerId::Nudge,
            ..
        }
    )));
    let outputs = core.step(Millis(10), ready(0));
    position(&outputs, |output| {
        matches!(
            output,
            Output::Train {
                round: RoundNumber(0),
                base_root,
                deadline: Millis(9_010),
                ..
            } if *base_root == root(0)
        )
    });
    assert_eq!(core.view().phase, Phase::Committing);
}

#[test]
fn every_signed_message_is_persisted_before_it_is_sent() {
    let mut core = new_core(1);
    core.step(Millis(0), Input::Start);
    core.step(Millis(0), ready(0));
    let outputs = core.step(Millis(100), trained(0));

    let stored = position(&outputs, |o| {
        matches!(o, Output::Persist(Record::OwnCommitment(_)))
    });
    let sent = position(&outputs, sends(Kind::Commitment));
    let revealed = position(&outputs, |o| matches!(o, Output::Reveal { .. }));
    assert!(stored < sent && sent < revealed);

    let stored = position(&outputs, |o| {
        matches!(o, Output::Persist(Record::OwnClosed(_)))
    });
    let closed = position(&outputs, sends(Kind::Closed));
    assert!(stored < closed && closed < revealed);

    let stored = position(&outputs, |o| {
        matches!(o, Output::Persist(Record::OwnAttestation(_)))
    });
    assert!(stored < position(&outputs, sends(Kind::Attestation)));

    let first_log = position(&outputs, |o| {
        matches!(o, Output::Persist(Record::AgreementLog { .. }))
    });
    assert!(first_log < position(&outputs, sends(Kind::Proposal)));

    let stored = position(&outputs, |o| {
        matches!(o, Output::Persist(Record::Decided(_)))
    });
    assert!(stored < position(&outputs, |o| matches!(o, Output::Apply(_))));
}

#[test]
fn a_lone_founder_decides_round_after_round() {
    let mut core = new_core(1);
    let decided = decide(&mut core, 5);
    assert_eq!(decided.len(), 5);
    assert!(
        decided
            .iter()
            .all(|round| round.value.contributions.len() == 1)
    );
    assert_eq!(core.chain().round(), RoundNumber(5));
}

#[test]
fn after_a_restart_the_commitment_is_repeated_and_nothing_is_trained() {
    let mut core = new_core(1);
    core.step(Millis(0), Input::Start);
    core.step(Millis(0), ready(0));
    let outputs = core.step(Millis(100), trained(0));
    let records: Vec<_> = outputs
        .into_iter()
        .filter_map(|output| match output {
            Output::Persist(record @ Record::OwnCommitment(_)) => Some(record),
            _ => None,
        })
        .collect();

    let mut core = restarted(records);
    core.step(Millis(0), Input::Start);
    let outputs = core.step(Millis(0), ready(0));
    position(&outputs, sends(Kind::Commitment));
    assert!(
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Train { .. }))
    );
}

#[test]
fn after_a_crash_at_any_output_a_core_signs_what_it_signed_before() {
    let mut core = new_core(1);
    core.step(Millis(0), Input::Start);
    core.step(Millis(0), ready(0));
    let outputs = core.step(Millis(100), trained(0));
    let said = |outputs: &[Output]| -> Vec<_> {
        let votes = outputs
            .iter()
            .filter(|o| sends(Kind::Vote)(o) || sends(Kind::Proposal)(o));
        votes.map(|output| format!("{output:?}")).collect()
    };
    let all = said(&outputs);

    for survives in 0..outputs.len() {
        let records: Vec<_> = outputs
            .iter()
            .take(survives)
            .filter_map(|output| match output {
                Output::Persist(record) => Some(record.clone()),
                _ => None,
            })
            .collect();
        if records
            .iter()
            .any(|record| matches!(record, Record::Decided(_)))
        {
            break;
        }
        let has_log = records
            .iter()
            .any(|record| matches!(record, Record::AgreementLog { .. }));
        let mut core = restarted(records);
        let mut again = core.step(Millis(0), Input::Start);
        again.extend(core.step(Millis(0), ready(0)));
        let attested = again.iter().any(sends(Kind::Attestation));
        if has_log || attested {
            let again = said(&again);
            assert!(
                again.iter().all(|message| all.contains(message)),
                "after {survives} outputs: {again:#?}"
            );
        }
    }
}

#[test]
fn samples_go_on_where_the_decided_ones_end_and_a_newcomers_lie_ahead() {
    let share = |outputs: &[Output]| {
        let mut shares = outputs.iter().filter_map(|output| match output {
            Output::Train { share, .. } => Some(share.clone()),
            _ => None,
        });
        shares.next_back().expect("no training")
    };
    let mut core = new_core(1);
    let decided = decide(&mut core, 3);
    let own = share(&core.step(Millis(4_000), ready(3)));
    assert_eq!(own.spans.len(), 1);
    // Three rounds of 8 samples are decided.
    assert_eq!((own.spans[0].start, own.spans[0].end), (24, own.ahead));
    assert!(own.ahead > 24 + 8);

    let mut late = new_core(2);
    late.step(Millis(0), Input::Start);
    late.step(Millis(0), Input::Synced(decided));
    let newcomers = late.chain().share(&key(2).peer());
    assert_eq!((newcomers.spans, newcomers.ahead), (Vec::new(), own.ahead));
}

#[test]
fn a_latecomer_verifies_every_round_and_applies_them_in_order() {
    let decided = decide(&mut new_core(1), 4);
    let mut late = new_core(2);
    late.step(Millis(0), Input::Start);
    late.step(Millis(0), ready(0));
    let outputs = late.step(Millis(10), Input::Synced(decided));
    let persisted = outputs
        .iter()
        .filter(|o| matches!(o, Output::Persist(Record::Decided(_))))
        .count();
    assert_eq!(persisted, 4);
    position(
        &outputs,
        |o| matches!(o, Output::Apply(apply) if apply.round == RoundNumber(0)),
    );
    assert_eq!(
        outputs
            .iter()
            .filter(|o| matches!(o, Output::Apply(_)))
            .count(),
        1
    );

    for round in 1..4 {
        let outputs = late.step(Millis(10), ready(round));
        position(
            &outputs,
            |o| matches!(o, Output::Apply(apply) if apply.round == RoundNumber(round)),
        );
    }
    // It has no place yet, so it asks for a ticket.
    let outputs = late.step(Millis(10), ready(4));
    position(&outputs, |o| {
        matches!(
            o,
            Output::FindTicket {
                round: RoundNumber(4),
                ..
            }
        )
    });
}

#[test]
fn a_newcomer_gets_a_place_two_rounds_after_its_ticket_is_decided() {
    let mut founder = new_core(1);
    let mut decided = decide(&mut founder, 1);
    let run = founder.chain().run();
    let newcomer = key(2).peer();
    let from = Ticket {
        round: RoundNumber(1),
        nonce: 0,
    };
    let bits = founder.chain().manifest().membership.ticket_bits;
    let ticket = from.find(run, newcomer, bits).expect("few bits");
    let envelope = Envelope::sign(&key(2), run, &ticket);
    founder.step(Millis(1_500), Input::Received(envelope));
    for round in 1..3 {
        assert_eq!(founder.chain().places().slot_of(&newcomer), None, "{round}");
        founder.step(Millis(2_000 * round), ready(round));
        for output in founder.step(Millis(2_000 * round + 500), trained(round)) {
            if let Output::Persist(Record::Decided(round)) = output {
                decided.push(*round);
            }
        }
    }
    assert_eq!(decided[1].value.tickets.len(), 1);
    let places = founder.chain().places();
    assert_eq!(places.newcomers(), [newcomer]);
    assert!(founder.chain().ledger().has_ticket(&newcomer));

    let mut late = new_core(2);
    late.step(Millis(0), Input::Start);
    late.step(Millis(0), ready(0));
    late.step(Millis(1), Input::Synced(decided));
    let outputs = (1..4).map(|round| late.step(Millis(2), ready(round)));
    let last = outputs.last().unwrap_or_default();
    position(&last, |o| matches!(o, Output::Train { .. }));
}

#[test]
fn a_message_of_the_next_round_gets_its_verdict_at_once_and_none_when_its_round_begins() {
    let decided = decide(&mut new_core(1), 1);
    let mut late = new_core(2);
    late.step(Millis(0), Input::Start);
    let early = Envelope::sign(&key(1), late.chain().run(), &commitment(1, 7));
    let verdicts = |outputs: &[Output]| -> Vec<_> {
        let verdicts = outputs.iter().filter_map(|output| match output {
            Output::Verdict(acceptance) => Some(*acceptance),
            _ => None,
        });
        verdicts.collect()
    };

    let outputs = late.step(Millis(10), Input::Received(early.clone()));
    assert_eq!(verdicts(&outputs), [Acceptance::Accept]);
    let outputs = late.step(Millis(20), Input::Synced(decided));
    assert_eq!(verdicts(&outputs), []);
    let messages = late.round_messages(RoundNumber(1), limits::RESPONSE_BYTES);
    assert_eq!(messages, [early]);
}

#[test]
fn round_messages_stay_within_the_callers_limit() {
    let mut core = new_core(1);
    core.step(Millis(0), Input::Start);
    let run = core.chain().run();
    let mut bytes = 0;
    let bits = core.chain().manifest().membership.ticket_bits;
    for n in 2..7 {
        let from = Ticket {
            round: RoundNumber(0),
            nonce: 0,
        };
        let ticket = from.find(run, key(n).peer(), bits).expect("few bits");
        let envelope = Envelope::sign(&key(n), run, &ticket);
        bytes += envelope.encode().len() + 8;
        core.step(Millis(1), Input::Received(envelope));
    }
    let count = |max_bytes| core.round_messages(RoundNumber(0), max_bytes).len();
    assert_eq!(count(bytes), 5);
    assert_eq!(count(bytes - 1), 4);
    assert_eq!(count(0), 0);
    assert_eq!(core.round_messages(RoundNumber(1), bytes), []);
}

#[test]
fn a_decided_round_that_was_tampered_with_is_refused() {
    let good = decide(&mut new_core(1), 2);
    let mut changed_set = good.clone();
    changed_set[1].value.contributions.clear();
    let mut without_proof = good.clone();
    without_proof[1].certificate.signatures.clear();
    let mut of_another_view = good.clone();
    of_another_view[1].certificate.view.0 += 1;
    let gap = vec![good[1].clone()];

    for (bad, adopted) in [
        (changed_set, 1),
        (without_proof, 1),
        (of_another_view, 1),
        (gap, 0),
    ] {
        let mut late = new_core(2);
        late.step(Millis(0), Input::Start);
        late.step(Millis(0), Input::Synced(bad));
        assert_eq!(late.chain().round(), RoundNumber(adopted));
    }
}

#[test]
fn weights_that_differ_from_the_decided_ones_are_fetched() {
    let decided = decide(&mut new_core(1), 1);
    let mut late = new_core(2);
    late.step(Millis(0), Input::Start);
    late.step(
        Millis(0),
        Input::WeightsReady {
            round: RoundNumber(0),
            root: [9; 32].into(),
        },
    );
    let outputs = late.step(Millis(10), Input::Synced(decided));
    let fetch = Output::FetchWeights {
        round: RoundNumber(0),
        root: root(0),
    };
    assert!(outputs.contains(&fetch), "{outputs:#?}");
    let outputs = late.step(Millis(20), ready(0));
    position(&outputs, |o| matches!(o, Output::Apply(_)));
}

#[test]
fn a_peer_that_leaves_announces_it_and_stops_training() {
    let mut core = new_core(1);
    core.step(Millis(0), Input::Start);
    core.step(Millis(0), ready(0));
    let outputs = core.step(Millis(10), Input::Leave);
    position(&outputs, sends(Kind::Leave));
    assert!(outputs.contains(&Output::StopTraining));
}

#[test]
fn whoever_has_the_manifest_can_check_a_history() {
    let decided = decide(&mut new_core(1), 3);
    let mut history = History::of(manifest(&[1]));
    for one in &decided {
        let apply = history.follow(one.clone()).expect("it was decided");
        assert_eq!(
            (apply.round, apply.base_root),
            (one.value.round, root(one.value.round.0))
        );
    }
    assert_eq!(history.chain().round(), RoundNumber(3));
    assert_eq!(history.chain().parent(), decided[2].value.hash());
    // Nothing can follow twice, be left out, be signed by somebody else, or be changed.
    let next = history.chain().round();
    let again = history.follow(decided[2].clone());
    assert!(matches!(again, Err(Invalid::Round { expected, .. }) if expected == next));
    let mut fresh = History::of(manifest(&[1]));
    assert!(matches!(
        fresh.follow(decided[1].clone()),
        Err(Invalid::Round { .. })
    ));
    let mut unsigned = decided[0].clone();
    unsigned.certificate.signatures.clear();
    assert_eq!(fresh.follow(unsigned), Err(Invalid::CertificateWeight));
    let mut other = decided[0].clone();
    other.value.base_root = [9; 32].into();
    assert_eq!(fresh.follow(other), Err(Invalid::CertificateValue));
    // A run of other founders has another history.
    assert!(
        History::of(manifest(&[2]))
            .follow(decided[0].clone())
            .is_err()
    );
    assert!(fresh.follow(decided[0].clone()).is_ok());
}
