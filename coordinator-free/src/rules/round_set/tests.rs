//! What makes a round set valid: one broken rule at a time.

use std::collections::BTreeMap;

use weal_proto::{
    Attestation, Certificate, Commitment, Decided, Envelope, Evidence, Leave, ListHash, PeerId,
    PlaceSet, Refusal, RoundNumber, RoundSet, SlotId, Ticket, Verdict, View,
};

use super::{Attestations, Collected, SignedCommitment, build};
use crate::rules::chain::Chain;
use crate::rules::evidence::pair;
use crate::rules::invalid::Invalid;
use crate::rules::verified::Verified;
use crate::sim::fixtures::{commitment, key, manifest, peer, run, signatures};

/// Everything that a proposer of round 0 may have received.
#[derive(Default)]
struct Heard {
    commitments: BTreeMap<PeerId, SignedCommitment>,
    attestations: Attestations,
    tickets: BTreeMap<PeerId, Envelope>,
    late: BTreeMap<(RoundNumber, PeerId), Envelope>,
    leaves: BTreeMap<PeerId, Envelope>,
    evidence: BTreeMap<PeerId, Evidence>,
}

impl Heard {
    /// Adds a commitment of each of these peers.
    fn commit(mut self, peers: &[u8]) -> Self {
        for n in peers {
            self.commit_to(*n, commitment(0, *n));
        }
        self
    }

    fn commit_to(&mut self, n: u8, commitment: Commitment) {
        let envelope = Envelope::sign(&key(n), run(), &commitment);
        self.commitments
            .insert(peer(n), SignedCommitment::new(envelope, commitment));
    }

    /// Adds an attestation of each of these peers: all commitments so far are valid, but those of
    /// `but`.
    fn attest(self, peers: &[u8], but: &[u8]) -> Self {
        let attestation = self.attestation(but);
        self.attest_as(peers, &attestation)
    }

    fn attest_as(mut self, peers: &[u8], attestation: &Attestation) -> Self {
        for n in peers {
            self.attestations.insert(
                (attestation.attempt, peer(*n)),
                (
                    Envelope::sign(&key(*n), run(), attestation),
                    attestation.clone(),
                ),
            );
        }
        self
    }

    fn attestation(&self, but: &[u8]) -> Attestation {
        let places = chain().places().clone();
        let refused: Vec<_> = but.iter().map(|n| peer(*n)).collect();
        let found = self.commitments.iter().filter_map(|(peer, signed)| {
            Some((places.slot_of(peer)?, *peer, signed.envelope.payload_hash()))
        });
        let mut found: Vec<_> = found.collect();
        found.sort();
        let (bad, good): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|(_, peer, _)| refused.contains(peer));
        Attestation {
            round: RoundNumber(0),
            base_root: [0; 32].into(),
            valid: good.iter().map(|(slot, _, _)| *slot).collect(),
            list: ListHash::of(
                good.iter()
                    .map(|(slot, _, commitment)| (*slot, *commitment)),
            ),
            refused: bad
                .iter()
                .map(|(slot, _, _)| Refusal {
                    slot: *slot,
                    verdict: Verdict::Malformed,
                })
                .collect(),
            attempt: 0,
            scores: Vec::new(),
        }
    }

    fn build(&self) -> Option<RoundSet> {
        self.build_for(&chain())
    }

    fn build_for(&self, chain: &Chain) -> Option<RoundSet> {
        let Self {
            commitments,
            attestations,
            tickets,
            late,
            leaves,
            evidence,
        } = self;
        build(
            chain,
            &Collected {
                attestations,
                commitments,
                tickets,
                late,
                leaves,
                evidence,
            },
            &mut signatures(),
        )
    }

    fn set(&self) -> RoundSet {
        self.build().expect("enough members attest")
    }
}

fn chain() -> Chain {
    Chain::genesis(manifest(&[1, 2, 3, 4]))
}

fn check(set: &RoundSet) -> Result<(), Invalid> {
    super::check(&chain(), set, &mut signatures())
}

/// A decision of the set, without a certificate.
fn trusted(set: RoundSet) -> Verified {
    Verified::from_own_disk(Decided {
        certificate: Certificate {
            round: set.round,
            view: View(0),
            value: set.hash(),
            signatures: Vec::new(),
        },
        value: set,
    })
}

fn contributors(set: &RoundSet) -> Vec<PeerId> {
    set.contributions
        .iter()
        .map(|envelope| envelope.signer)
        .collect()
}

fn sorted(peers: &[u8]) -> Vec<PeerId> {
    let mut peers: Vec<_> = peers.iter().map(|n| peer(*n)).collect();
    peers.sort_by_key(|peer| chain().places().slot_of(peer));
    peers
}

fn all() -> Heard {
    Heard::default()
        .commit(&[1, 2, 3, 4])
        .attest(&[1, 2, 3, 4], &[])
}

#[test]
fn a_set_that_an_honest_proposer_builds_is_valid() {
    let set = all().set();
    assert_eq!(contributors(&set), sorted(&[1, 2, 3, 4]));
    assert_eq!(check(&set), Ok(()));
}

#[test]
fn three_of_four_suffice_and_two_do_not() {
    let three = Heard::default().commit(&[1]).attest(&[1, 2, 3], &[]);
    assert_eq!(check(&three.set()), Ok(()));
    assert_eq!(
        Heard::default().commit(&[1]).attest(&[1, 2], &[]).build(),
        None
    );
}

#[test]
fn a_round_without_contributions_is_valid() {
    let set = Heard::default().attest(&[1, 2, 3], &[]).set();
    assert!(set.contributions.is_empty());
    assert_eq!(check(&set), Ok(()));
}

/// Attestations of 1 and 2 support all three contributions, those of 3 and 4 all but peer 2's.
fn split_about_the_second() -> Heard {
    Heard::default()
        .commit(&[1, 2, 3])
        .attest(&[1, 2], &[])
        .attest(&[3, 4], &[2])
}

#[test]
fn half_of_the_weight_is_not_enough_to_choose_a_contribution() {
    let heard = split_about_the_second();
    let mut set = heard.set();
    assert_eq!(contributors(&set), sorted(&[1, 3]));
    assert_eq!(check(&set), Ok(()));
    set.contributions = sorted(&[1, 2, 3])
        .iter()
        .map(|peer| heard.commitments[peer].envelope.clone())
        .collect();
    set.named.clear();
    assert!(check(&set).is_err());
}

#[test]
fn a_proposer_can_leave_out_nothing_that_its_attestations_support() {
    let good = all().set();
    for n in 0..good.contributions.len() {
        let mut censored = good.clone();
        let left_out = censored.contributions.remove(n);
        let slot = chain().places().slot_of(&left_out.signer).unwrap();
        // Silently, and named among those that are not chosen.
        assert!(matches!(check(&censored), Err(Invalid::List(_))));
        censored.named.push(weal_proto::Named {
            slot,
            commitment: left_out.payload_hash(),
        });
        assert_eq!(check(&censored), Err(Invalid::Contributions(slot)));
    }
}

#[test]
fn a_minimal_quorum_cannot_censor_what_most_support() {
    let heard = Heard::default()
        .commit(&[1, 2])
        .attest(&[1, 2, 3], &[])
        .attest(&[4], &[1]);
    for left_out in 1..=4_u8 {
        let mut fewer = Heard { ..Heard::default() };
        fewer.commitments = heard.commitments.clone();
        fewer.attestations = heard.attestations.clone();
        fewer.attestations.remove(&(0, peer(left_out)));
        let set = fewer.set();
        assert_eq!(check(&set), Ok(()));
        let both = contributors(&set) == sorted(&[1, 2]);
        // Only who leaves out a supporter brings peer 1 down to half.
        assert_eq!(both, left_out == 4, "without {left_out}");
    }
}

#[test]
fn an_attestation_whose_list_nobody_can_rebuild_does_not_count() {
    let heard = Heard::default().commit(&[1, 2]);
    let mut strange = heard.attestation(&[]);
    strange.list = ListHash::of([]);
    let heard = heard.attest(&[1, 2, 3], &[]).attest_as(&[4], &strange);
    let mut set = heard.set();
    assert_eq!(set.attestations.len(), 3);
    let strange = heard.attestations[&(0, peer(4))].0.clone();
    set.attestations.push(strange);
    set.attestations.sort_by_key(|envelope| envelope.signer);
    assert_eq!(check(&set), Err(Invalid::List(peer(4))));
}

#[test]
fn attestations_that_mean_another_commitment_of_an_equivocator_are_understood() {
    let mut heard = Heard::default().commit(&[1, 2]).attest(&[1, 2, 3], &[]);
    let seen_first = heard.commitments[&peer(2)].envelope.clone();
    heard.commit_to(2, commitment(0, 77));
    let seen_by_4 = heard.commitments[&peer(2)].envelope.clone();
    let meant = heard.attestation(&[]);
    let mut heard = heard.attest_as(&[4], &meant);
    heard.commit_to(2, commitment(0, 2));
    heard.evidence.insert(peer(2), pair(seen_first, seen_by_4));
    let set = heard.set();
    assert_eq!(set.attestations.len(), 4);
    assert_eq!(set.differences.len(), 1);
    assert_eq!(contributors(&set), sorted(&[1]));
    assert_eq!(check(&set), Ok(()));
}

#[test]
fn a_second_attempt_decides_when_the_first_is_split() {
    let heard = Heard::default().commit(&[1]).attest(&[1, 2], &[]);
    let mut other = heard.attestation(&[]);
    other.base_root = [5; 32].into();
    let heard = heard.attest_as(&[3, 4], &other);
    assert_eq!(heard.build(), None);
    let mut again = heard.attestation(&[]);
    again.attempt = 1;
    let heard = heard.attest_as(&[1, 2, 3], &again);
    let mut set = heard.set();
    assert_eq!((set.attempt, set.attestations.len()), (1, 3));
    assert_eq!(check(&set), Ok(()));
    set.attempt = 0;
    assert!(matches!(check(&set), Err(Invalid::Attestation(_))));
}

#[test]
fn an_attestation_may_be_decided_up_to_three_rounds_late_and_once() {
    let first = all().set();
    let mut chain = chain();
    let without_4 = |set: &RoundSet| RoundSet {
        attestations: set
            .attestations
            .iter()
            .filter(|envelope| envelope.signer != peer(4))
            .cloned()
            .collect(),
        ..set.clone()
    };
    let late = first.attestations.iter().find(|it| it.signer == peer(4));
    let late = late.unwrap().clone();
    assert!(chain.extend(&trusted(without_4(&first))).is_ok());
    for round in 1..=4 {
        assert_eq!(chain.allows_late(&peer(4), RoundNumber(0)), round <= 3);
        assert!(!chain.allows_late(&peer(1), RoundNumber(0)));
        let mut with_it = chain.clone();
        let set = RoundSet {
            round: RoundNumber(round),
            late: vec![late.clone()],
            ..without_4(&first)
        };
        assert!(with_it.extend(&trusted(set.clone())).is_ok());
        assert!(!with_it.allows_late(&peer(4), RoundNumber(0)));
        let set = RoundSet {
            late: Vec::new(),
            ..set
        };
        assert!(chain.extend(&trusted(set)).is_ok());
    }
}

#[test]
fn tickets_are_decided_if_they_cost_work_and_their_signer_needs_one() {
    let bits = chain().manifest().membership.ticket_bits;
    let ticket = |n: u8| {
        let from = Ticket {
            round: RoundNumber(0),
            nonce: 0,
        };
        let found = from.find(run(), peer(n), bits).unwrap();
        Envelope::sign(&key(n), run(), &found)
    };
    let mut heard = all();
    heard.tickets.insert(peer(8), ticket(8));
    heard.tickets.insert(peer(9), ticket(9));
    heard.tickets.insert(peer(1), ticket(1));
    let set = heard.set();
    assert_eq!((set.tickets.len(), check(&set)), (2, Ok(())));
    let mut of_a_member = set.clone();
    of_a_member.tickets = vec![ticket(1)];
    assert_eq!(check(&of_a_member), Err(Invalid::Ticket(peer(1))));
    let mut after = chain();
    assert!(after.extend(&trusted(set)).is_ok());
    assert!(after.ledger().has_ticket(&peer(9)));
}

#[test]
fn a_set_of_256_voters_and_64_contributions_has_less_than_100_kib() {
    let contributions = 64;
    let envelope = |n: u64, payload: &dyn Fn(&weal_proto::SigningKey) -> Envelope| {
        let seed = *blake3::hash(&n.to_le_bytes()).as_bytes();
        payload(&weal_proto::SigningKey::from_seed(seed))
    };
    let commitment = Commitment {
        round: RoundNumber(1_000_000),
        base_root: [1; 32].into(),
        blob: [2; 32].into(),
        blob_bytes: 10_000_000,
        spans: vec![weal_proto::SampleSpan {
            seed_round: RoundNumber(1_000_000),
            first: 0,
            count: 10_000,
        }],
    };
    // Three scores each (9 voters measure each of 64 contributions), two refusals.
    let attestation = Attestation {
        round: RoundNumber(1_000_000),
        base_root: [1; 32].into(),
        valid: (0..80).map(SlotId).collect::<PlaceSet>(),
        list: ListHash::of([]),
        refused: vec![],
        attempt: 1,
        scores: (0..3)
            .map(|n| weal_proto::Score {
                slot: SlotId(77 + n),
                own_ppm: -300_000,
                held_ppm: 300_000,
            })
            .collect(),
    };
    let set = RoundSet {
        contributions: (0..contributions)
            .map(|n| envelope(n, &|key| Envelope::sign(key, run(), &commitment)))
            .collect(),
        attestations: (0..256)
            .map(|n| envelope(n, &|key| Envelope::sign(key, run(), &attestation)))
            .collect(),
        named: (64..80)
            .map(|n| weal_proto::Named {
                slot: SlotId(n),
                commitment: [9; 32].into(),
            })
            .collect(),
        ..all().set()
    };
    let bytes = weal_proto::Message::encode(&set).len();
    assert!(bytes < 100 << 10, "{bytes} bytes");
}

#[test]
fn a_set_of_another_history_is_refused() {
    let good = all().set();
    let broken = |change: fn(&mut RoundSet)| {
        let mut set = good.clone();
        change(&mut set);
        check(&set)
    };
    assert!(matches!(
        broken(|set| set.round = RoundNumber(1)),
        Err(Invalid::Round { .. })
    ));
    assert_eq!(
        broken(|set| set.parent = [7; 32].into()),
        Err(Invalid::Parent)
    );
    assert_eq!(
        broken(|set| set.ledger_root = [7; 32].into()),
        Err(Invalid::LedgerRoot)
    );
    assert_eq!(
        broken(|set| set.base_root = [7; 32].into()),
        Err(Invalid::AttestationWeight)
    );
    assert_eq!(
        broken(|set| set.attestations.truncate(2)),
        Err(Invalid::AttestationWeight)
    );
    assert_eq!(
        broken(|set| set.contributions.reverse()),
        Err(Invalid::Contributions(SlotId(0)))
    );
    assert_eq!(
        broken(|set| set.attestations.reverse()),
        Err(Invalid::Order("attestations"))
    );
}

#[test]
fn a_forged_signature_is_refused() {
    let mut set = all().set();
    let signer = set.contributions.first().map(|envelope| envelope.signer);
    if let Some(envelope) = set.attestations.first_mut() {
        envelope.signature.0[0] ^= 1;
        let forged = envelope.signer;
        assert_eq!(check(&set), Err(Invalid::Signature(forged)));
    }
    assert!(signer.is_some());
}

#[test]
fn a_stranger_may_not_attest() {
    let mut with_stranger = Heard::default().attest(&[1, 2, 3, 9], &[]);
    assert_eq!(with_stranger.set().attestations.len(), 3);
    let stranger = with_stranger
        .attestations
        .remove(&(0, peer(9)))
        .map(|(envelope, _)| envelope);
    let mut set = with_stranger.set();
    set.attestations.extend(stranger);
    set.attestations.sort_by_key(|envelope| envelope.signer);
    assert_eq!(check(&set), Err(Invalid::Attestation(peer(9))));
}

#[test]
fn an_equivocator_is_banned_and_its_contribution_left_out() {
    let mut heard = all();
    let two = |blob| Envelope::sign(&key(2), run(), &commitment(0, blob));
    heard.evidence.insert(peer(2), pair(two(2), two(7)));
    let set = heard.set();
    assert_eq!(contributors(&set), sorted(&[1, 3, 4]));
    assert_eq!(check(&set), Ok(()));

    let mut after = chain();
    assert!(after.extend(&trusted(set.clone())).is_ok());
    assert!(after.ledger().is_banned(&peer(2)));
    assert_eq!(after.ledger().roster().weight(&peer(2)), 0);
}

#[test]
fn evidence_against_strangers_does_not_count() {
    let mut set = all().set();
    let two = |blob| Envelope::sign(&key(9), run(), &commitment(0, blob));
    set.evidence = vec![pair(two(2), two(7))];
    assert_eq!(check(&set), Err(Invalid::Evidence(peer(9))));
}

#[test]
fn a_leave_counts_once_and_not_after_its_signer_was_heard_again() {
    let leave = Envelope::sign(
        &key(4),
        run(),
        &Leave {
            round: RoundNumber(0),
        },
    );
    let mut heard = Heard::default().commit(&[1]).attest(&[1, 2, 3], &[]);
    heard.leaves.insert(peer(4), leave.clone());
    let set = heard.set();
    assert_eq!(check(&set), Ok(()));
    let mut after = chain();
    assert!(after.extend(&trusted(set.clone())).is_ok());
    assert!(!after.ledger().is_member(&peer(4)));
    assert_eq!(
        super::check::leave(&after, &leave, &mut signatures()),
        Err(Invalid::Leave(peer(4)))
    );

    // The peer contributes in rounds 1 and 2. Its old leave still verifies, but must not count.
    for round in 1..3 {
        let contribution = Envelope::sign(&key(4), run(), &commitment(round, 4));
        let set = RoundSet {
            round: RoundNumber(round),
            contributions: vec![contribution],
            ..set.clone()
        };
        let extended = after.extend(&trusted(RoundSet {
            leaves: Vec::new(),
            ..set
        }));
        assert!(extended.is_ok());
    }
    assert!(after.ledger().is_member(&peer(4)));
    assert_eq!(
        super::check::leave(&after, &leave, &mut signatures()),
        Err(Invalid::Leave(peer(4)))
    );
}
