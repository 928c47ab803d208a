//! One peer alone: the order in which a round's outputs come, and what survives a crash.

use std::sync::Arc;

use weal_coordinator_free::{
    Config, Core, Input, Millis, Output, Phase, Record, Recovered, TimerId, sim,
};
use weal_proto::{BlobHash, Decided, Kind, RoundNumber, Samples, SigningKey, StateRoot};

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed([n; 32])
}

fn manifest() -> Arc<weal_proto::Manifest> {
    Arc::new(sim::manifest([key(1).peer()]))
}

fn first_life(n: u8) -> Core {
    Core::new(Config::new(key(n)), Recovered::nothing(manifest())).expect("a founder is enough")
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

/// Lets a founder alone decide so many rounds.
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

fn place(outputs: &[Output], what: impl Fn(&Output) -> bool) -> usize {
    outputs
        .iter()
        .position(what)
        .unwrap_or_else(|| panic!("missing in {outputs:#?}"))
}

fn sends(kind: Kind) -> impl Fn(&Output) -> bool {
    move |output| matches!(output, Output::Broadcast(envelope) if envelope.kind == kind)
}

#[test]
fn training_starts_when_the_weights_are_ready() {
    let mut core = first_life(1);
    let started = core.step(Millis(5), Input::Start);
    assert!(started.iter().any(|output| matches!(
        output,
        Output::SetTimer {
            id: TimerId::Nudge,
            ..
        }
    )));
    let outputs = core.step(Millis(10), ready(0));
    place(&outputs, |output| {
        matches!(output, Output::Train { round: RoundNumber(0), base_root, deadline: Millis(9_010), .. }
            if *base_root == root(0))
    });
    assert_eq!(core.view().phase, Phase::Committing);
}

#[test]
fn everything_is_on_disk_before_it_is_on_the_wire() {
    let mut core = first_life(1);
    core.step(Millis(0), Input::Start);
    core.step(Millis(0), ready(0));
    let outputs = core.step(Millis(100), trained(0));

    let stored = place(&outputs, |o| {
        matches!(o, Output::Persist(Record::OwnCommitment(_)))
    });
    let sent = place(&outputs, sends(Kind::Commitment));
    let revealed = place(&outputs, |o| matches!(o, Output::Reveal { .. }));
    assert!(stored < sent && sent < revealed);

    let stored = place(&outputs, |o| {
        matches!(o, Output::Persist(Record::OwnAttestation(_)))
    });
    assert!(stored < place(&outputs, sends(Kind::Attestation)));

    let first_log = place(&outputs, |o| {
        matches!(o, Output::Persist(Record::AgreementLog { .. }))
    });
    assert!(first_log < place(&outputs, sends(Kind::Proposal)));

    let stored = place(&outputs, |o| {
        matches!(o, Output::Persist(Record::Decided(_)))
    });
    assert!(stored < place(&outputs, |o| matches!(o, Output::Apply(_))));
}

#[test]
fn a_lone_founder_decides_round_after_round() {
    let mut core = first_life(1);
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
fn a_commitment_is_never_made_twice() {
    let mut core = first_life(1);
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

    let recovered = Recovered {
        records,
        ..Recovered::nothing(manifest())
    };
    let mut core =
        Core::new(Config::new(key(1)), recovered).expect("what was persisted can be read");
    core.step(Millis(0), Input::Start);
    let outputs = core.step(Millis(0), ready(0));
    place(&outputs, sends(Kind::Commitment));
    assert!(
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Train { .. }))
    );
}

#[test]
fn a_crash_after_any_output_leads_to_the_same_words() {
    let mut core = first_life(1);
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
        let recovered = Recovered {
            records,
            ..Recovered::nothing(manifest())
        };
        let mut core =
            Core::new(Config::new(key(1)), recovered).expect("what was persisted can be read");
        let mut again = core.step(Millis(0), Input::Start);
        again.extend(core.step(Millis(0), ready(0)));
        let attested = again.iter().any(sends(Kind::Attestation));
        if has_log || attested {
            let again = said(&again);
            assert!(
                again.iter().all(|word| all.contains(word)),
                "after {survives} outputs: {again:#?}"
            );
        }
    }
}

#[test]
fn a_latecomer_verifies_every_round_and_applies_them_in_order() {
    let decided = decide(&mut first_life(1), 4);
    let mut late = first_life(2);
    late.step(Millis(0), Input::Start);
    late.step(Millis(0), ready(0));
    let outputs = late.step(Millis(10), Input::Synced(decided));
    let persisted = outputs
        .iter()
        .filter(|o| matches!(o, Output::Persist(Record::Decided(_))))
        .count();
    assert_eq!(persisted, 4);
    assert!(outputs.contains(&Output::StopTraining));
    place(
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
        place(
            &outputs,
            |o| matches!(o, Output::Apply(apply) if apply.round == RoundNumber(round)),
        );
    }
    let outputs = late.step(Millis(10), ready(4));
    place(&outputs, |o| {
        matches!(
            o,
            Output::Train {
                round: RoundNumber(4),
                ..
            }
        )
    });
}

#[test]
fn a_round_that_was_tampered_with_is_refused() {
    let good = decide(&mut first_life(1), 2);
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
        let mut late = first_life(2);
        late.step(Millis(0), Input::Start);
        late.step(Millis(0), Input::Synced(bad));
        assert_eq!(late.chain().round(), RoundNumber(adopted));
    }
}

#[test]
fn weights_that_differ_from_the_decided_ones_are_fetched() {
    let decided = decide(&mut first_life(1), 1);
    let mut late = first_life(2);
    late.step(Millis(0), Input::Start);
    late.step(
        Millis(0),
        Input::WeightsReady {
            round: RoundNumber(0),
            root: [9; 32].into(),
        },
    );
    let outputs = late.step(Millis(10), Input::Synced(decided));
    let wanted = Output::FetchWeights {
        round: RoundNumber(0),
        root: root(0),
    };
    assert!(outputs.contains(&wanted), "{outputs:#?}");
    let outputs = late.step(Millis(20), ready(0));
    place(&outputs, |o| matches!(o, Output::Apply(_)));
}

#[test]
fn who_leaves_says_so_and_trains_no_more() {
    let mut core = first_life(1);
    core.step(Millis(0), Input::Start);
    core.step(Millis(0), ready(0));
    let outputs = core.step(Millis(10), Input::Leave);
    place(&outputs, sends(Kind::Leave));
    assert!(outputs.contains(&Output::StopTraining));
}
