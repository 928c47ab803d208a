//! What makes a round set valid: one broken rule at a time.

use std::collections::BTreeMap;

use weal_proto::{
    Attestation, Certificate, Commitment, Decided, Envelope, Evidence, Finding, Leave, PeerId,
    RoundNumber, RoundSet, Verdict, View,
};

use super::{Collected, SignedCommitment, build};
use crate::rules::chain::Chain;
use crate::rules::evidence::pair;
use crate::rules::invalid::Invalid;
use crate::rules::verified::Verified;
use crate::sim::fixtures::{commitment, key, manifest, peer, run, signatures};

/// Everything that a proposer of round 0 may have received.
#[derive(Default)]
struct Heard {
    commitments: BTreeMap<PeerId, SignedCommitment>,
    attestations: BTreeMap<PeerId, (Envelope, Attestation)>,
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
    fn attest(mut self, peers: &[u8], but: &[u8]) -> Self {
        let refused: Vec<_> = but.iter().map(|n| peer(*n)).collect();
        let mut findings: Vec<_> = self
            .commitments
            .values()
            .map(|signed| Finding {
                commitment: signed.hash,
                verdict: if refused.contains(&signed.envelope.signer) {
                    Verdict::Malformed
                } else {
                    Verdict::Valid
                },
            })
            .collect();
        findings.sort_by_key(|finding| finding.commitment);
        for n in peers {
            let base_root = [0; 32].into();
            let attestation = Attestation {
                round: RoundNumber(0),
                base_root,
                findings: findings.clone(),
            };
            self.attestations.insert(
                peer(*n),
                (Envelope::sign(&key(*n), run(), &attestation), attestation),
            );
        }
        self
    }

    fn build(&self) -> Option<RoundSet> {
        let Self {
            commitments,
            attestations,
            leaves,
            evidence,
        } = self;
        build(
            &chain(),
            &Collected {
                attestations,
                commitments,
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
    peers.sort();
    peers
}

fn all() -> Heard {
    Heard::default()
        .commit(&[1, 2, 3, 4, 9])
        .attest(&[1, 2, 3, 4], &[])
}

#[test]
fn a_set_that_an_honest_proposer_builds_is_valid() {
    let set = all().set();
    assert_eq!(contributors(&set), sorted(&[1, 2, 3, 4, 9]));
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

#[test]
fn a_contribution_without_enough_support_is_left_out_and_makes_a_set_invalid() {
    let mut heard = Heard::default().commit(&[1, 2]).attest(&[1, 2], &[]);
    heard = heard.attest(&[3, 4], &[2]);
    let mut set = heard.set();
    assert_eq!(contributors(&set), sorted(&[1]));
    set.contributions = heard
        .commitments
        .values()
        .map(|signed| signed.envelope.clone())
        .collect();
    assert_eq!(check(&set), Err(Invalid::Support(peer(2))));
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
        Err(Invalid::Order("contributions"))
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
fn a_stranger_may_contribute_but_not_attest() {
    let set = Heard::default()
        .commit(&[9])
        .attest(&[1, 2, 3, 4], &[])
        .set();
    assert_eq!(contributors(&set), sorted(&[9]));
    let mut with_stranger = Heard::default().attest(&[1, 2, 3, 9], &[]);
    assert_eq!(with_stranger.set().attestations.len(), 3);
    let stranger = with_stranger
        .attestations
        .remove(&peer(9))
        .map(|(envelope, _)| envelope);
    let mut set = with_stranger.set();
    set.attestations.extend(stranger);
    set.attestations.sort_by_key(|envelope| envelope.signer);
    assert_eq!(check(&set), Err(Invalid::Attestation(peer(9))));
}

#[test]
fn a_contribution_from_other_weights_or_of_a_forbidden_size_is_left_out() {
    let mut heard = Heard::default().commit(&[1]);
    heard.commit_to(
        2,
        Commitment {
            base_root: [5; 32].into(),
            ..commitment(0, 2)
        },
    );
    heard.commit_to(
        3,
        Commitment {
            blob_bytes: 1 << 40,
            ..commitment(0, 3)
        },
    );
    let heard = heard.attest(&[1, 2, 3, 4], &[]);
    let mut set = heard.set();
    assert_eq!(contributors(&set), sorted(&[1]));
    set.contributions = heard
        .commitments
        .values()
        .map(|signed| signed.envelope.clone())
        .collect();
    assert!(matches!(check(&set), Err(Invalid::Contribution(_))));
}

#[test]
fn an_equivocator_is_banned_and_its_contribution_left_out() {
    let mut heard = all();
    let two = |blob| Envelope::sign(&key(2), run(), &commitment(0, blob));
    heard.evidence.insert(peer(2), pair(two(2), two(7)));
    let set = heard.set();
    assert_eq!(contributors(&set), sorted(&[1, 3, 4, 9]));
    assert_eq!(check(&set), Ok(()));

    let mut after = chain();
    assert_eq!(after.extend(&trusted(set.clone())), Ok(()));
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
fn a_leave_counts_once_and_not_after_its_signer_has_contributed_again() {
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
    assert_eq!(after.extend(&trusted(set.clone())), Ok(()));
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
        assert_eq!(
            after.extend(&trusted(RoundSet {
                leaves: Vec::new(),
                ..set
            })),
            Ok(())
        );
    }
    assert!(after.ledger().is_member(&peer(4)));
    assert_eq!(
        super::check::leave(&after, &leave, &mut signatures()),
        Err(Invalid::Leave(peer(4)))
    );
}
