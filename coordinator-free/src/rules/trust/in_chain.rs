//! From reports in attestations to coefficients: decided rounds extend a chain.

use std::collections::BTreeMap;

use weal_proto::{
    Attestation, Certificate, ChainSnapshot, Decided, Envelope, ListHash, Message, PeerId,
    RoundNumber, RoundSet, Score, SlotId, Ticket, View,
};

use crate::interface::output::Apply;
use crate::rules::chain::Chain;
use crate::rules::verified::Verified;
use crate::sim::fixtures::{commitment, key, manifest, peer, run};

const FOUNDERS: [u8; 4] = [1, 2, 3, 4];
const NEWCOMER: u8 = 9;

/// A chain, and the places of its last decided round.
struct Folded {
    chain: Chain,
    last: BTreeMap<SlotId, PeerId>,
    decided: Vec<Decided>,
}

impl Folded {
    fn genesis() -> Self {
        Self {
            chain: Chain::genesis(manifest(&FOUNDERS)),
            last: BTreeMap::new(),
            decided: Vec::new(),
        }
    }

    /// Decides a round in which all who hold a place contribute, the newcomer asks for one, and
    /// each founder reports these gains of the round before.
    fn decide(&mut self, gain_of: impl Fn(&PeerId) -> i32) -> Apply {
        let chain = &mut self.chain;
        let round = chain.round();
        let score = |(slot, peer): (&SlotId, &PeerId)| Score {
            slot: *slot,
            own_ppm: gain_of(peer),
            held_ppm: gain_of(peer),
        };
        let attestation = Attestation {
            round,
            base_root: [0; 32].into(),
            valid: chain
                .places()
                .iter()
                .zip(0..)
                .map(|(_, slot)| SlotId(slot))
                .collect(),
            list: ListHash::of([]),
            refused: Vec::new(),
            attempt: 0,
            scores: self.last.iter().map(score).collect(),
        };
        let contribute = |holder: &PeerId| {
            let all = [1, 2, 3, 4, NEWCOMER];
            let n = all.into_iter().find(|n| peer(*n) == *holder)?;
            Some(Envelope::sign(&key(n), run(), &commitment(round.0, n)))
        };
        self.last = (0..).map(SlotId).zip(chain.places().iter()).collect();
        let ticket = Ticket { round, nonce: 0 };
        let value = RoundSet {
            contributions: self.last.values().filter_map(contribute).collect(),
            attestations: FOUNDERS
                .iter()
                .map(|n| Envelope::sign(&key(*n), run(), &attestation))
                .collect(),
            tickets: vec![Envelope::sign(&key(NEWCOMER), run(), &ticket)],
            ..chain.empty_set([0; 32].into())
        };
        let certificate = Certificate {
            round,
            view: View(0),
            value: value.hash(),
            signatures: Vec::new(),
        };
        let decided = Decided { value, certificate };
        self.decided.push(decided.clone());
        chain.extend(&Verified::from_own_disk(decided)).unwrap()
    }
}

fn coefficient(apply: &Apply, n: u8) -> u32 {
    let chosen = apply.contributions.iter().find(|one| one.peer == peer(n));
    chosen.map_or(0, |one| one.coefficient_ppm)
}

#[test]
fn a_newcomer_counts_once_three_of_its_contributions_are_settled() {
    let mut folded = Folded::genesis();
    let counts: Vec<_> = (0..12)
        .map(|_| coefficient(&folded.decide(|_| 10_000), NEWCOMER))
        .collect();
    // Its tickets win it the rounds 2 and 4. Round 2 is settled with the decision of 5 and makes it
    // a member, which has a place in 6; that is settled with the decision of 9.
    assert_eq!(counts, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1_000_000, 1_000_000]);
    assert!(folded.chain.ledger().is_member(&peer(NEWCOMER)));
}

#[test]
fn a_founder_that_does_harm_counts_less_and_earns_nothing() {
    let mut folded = Folded::genesis();
    let mut counts = Vec::new();
    for _ in 0..8 {
        let harmful = |one: &_| if *one == peer(2) { -10_000 } else { 10_000 };
        counts.push(coefficient(&folded.decide(harmful), 2));
    }
    assert_eq!(counts[..4], [1_000_000; 4]);
    assert_eq!(counts[7], 0);
    let weight = |n| {
        folded
            .chain
            .ledger()
            .account(&peer(n))
            .map_or(0, |one| one.weight)
    };
    assert!(weight(2) < weight(1));
}

#[test]
fn what_does_nothing_earns_nothing() {
    let mut folded = Folded::genesis();
    let before = folded.chain.ledger().roster().total();
    for _ in 0..5 {
        folded.decide(|_| 0);
    }
    assert_eq!(folded.chain.round(), RoundNumber(5));
    assert!(folded.chain.ledger().roster().total() < before);
}

#[test]
fn a_chain_restored_after_any_round_is_the_same_as_the_whole() {
    let mut folded = Folded::genesis();
    for round in 0..70 {
        let sign = if round % 5 == 0 { -1 } else { 1 };
        folded.decide(|one| sign * i32::from(one.as_bytes()[0]) * (round + 1));
    }
    let whole = format!("{:?}", folded.chain);
    for cut in (0..folded.decided.len()).step_by(3) {
        let (first, rest) = folded.decided.split_at(cut);
        let mut chain = Chain::genesis(manifest(&FOUNDERS));
        extend(&mut chain, first);
        let bytes = chain.snapshot().encode();
        let snapshot = ChainSnapshot::decode(&bytes).unwrap();
        let mut restored = Chain::restore(manifest(&FOUNDERS), &snapshot).unwrap();
        assert_eq!(format!("{restored:?}"), format!("{chain:?}"), "round {cut}");
        extend(&mut restored, rest);
        assert_eq!(format!("{restored:?}"), whole, "from round {cut}");
    }
}

fn extend(chain: &mut Chain, decided: &[Decided]) {
    for one in decided {
        chain.extend(&Verified::from_own_disk(one.clone())).unwrap();
    }
}

#[test]
fn a_snapshot_of_another_run_or_of_other_rules_is_refused() {
    let mut folded = Folded::genesis();
    folded.decide(|_| 10_000);
    let snapshot = folded.chain.snapshot();
    assert!(Chain::restore(manifest(&FOUNDERS), &snapshot).is_ok());
    assert!(Chain::restore(manifest(&[1, 2]), &snapshot).is_err());
    let of_other_rules = ChainSnapshot {
        rules: snapshot.rules + 1,
        ..snapshot
    };
    assert!(Chain::restore(manifest(&FOUNDERS), &of_other_rules).is_err());
}
