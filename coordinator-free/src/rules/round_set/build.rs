//! How a proposer puts a set together from what it heard.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{Attestation, Envelope, Evidence, Message, PeerId, RoundSet, StateRoot, limits};

use super::check::leave;
use super::{SignedCommitment, Tally, choose};
use crate::rules::chain::Chain;
use crate::rules::signatures::Signatures;

/// Bytes kept for attestations: the rest of a set is for contributions, leaves and evidence.
const ATTESTATION_BYTES: usize = limits::ROUND_SET_BYTES * 5 / 8;
/// Bytes kept for evidence. What finds no room waits for a later round.
const EVIDENCE_BYTES: usize = limits::ROUND_SET_BYTES / 4;
/// Bytes of an envelope around its payload, at most.
const ENVELOPE_OVERHEAD: usize = 192;

/// What a proposer has heard.
pub(crate) struct Material<'a> {
    /// Attestations of the round, by signer: members only, signatures checked.
    pub attestations: &'a BTreeMap<PeerId, (Envelope, Attestation)>,
    /// Commitments of the round, by signer: signatures checked.
    pub commitments: &'a BTreeMap<PeerId, SignedCommitment>,
    /// Leaves, by signer.
    pub leaves: &'a BTreeMap<PeerId, Envelope>,
    /// Evidence, by offender: checked.
    pub evidence: &'a BTreeMap<PeerId, Evidence>,
}

/// The set to propose for the chain's next round: every contribution with enough support, up to the
/// manifest's limit. `None` while no base root has more than two thirds of the weight behind it.
pub(crate) fn build(
    chain: &Chain,
    material: &Material<'_>,
    signatures: &mut Signatures,
) -> Option<RoundSet> {
    let attestations = attestations(chain, material);
    let roster = chain.ledger().roster();
    let mut tally = Tally::default();
    for (envelope, attestation) in &attestations {
        tally.add(roster.weight(&envelope.signer), attestation);
    }
    let base_root = tally.agreed_root(roster)?;
    let evidence = evidence(chain, material);
    let leaves = material
        .leaves
        .values()
        .filter(|envelope| leave(chain, envelope, signatures).is_ok());

    Some(RoundSet {
        round: chain.round(),
        parent: chain.parent(),
        base_root,
        ledger_root: chain.ledger_root(),
        contributions: contributions(chain, material, base_root, &tally, &evidence),
        attestations: by_signer(attestations.iter().map(|attested| &attested.0)),
        leaves: leaves.take(limits::LEAVES).cloned().collect(),
        evidence,
    })
}

/// As many as fit, the heaviest first.
fn attestations<'a>(chain: &Chain, material: &Material<'a>) -> Vec<&'a (Envelope, Attestation)> {
    let roster = chain.ledger().roster();
    let mut heaviest: Vec<_> = material
        .attestations
        .iter()
        .filter(|(peer, _)| chain.may_attest(peer))
        .collect();
    heaviest.sort_by_key(|(peer, _)| std::cmp::Reverse(roster.weight(peer)));
    let mut room = ATTESTATION_BYTES;
    heaviest
        .into_iter()
        .take(limits::VOTERS)
        .take_while(|(_, (envelope, _))| take(&mut room, envelope.payload.len()))
        .map(|(_, attested)| attested)
        .collect()
}

fn evidence(chain: &Chain, material: &Material<'_>) -> Vec<Evidence> {
    let mut room = EVIDENCE_BYTES;
    material
        .evidence
        .iter()
        .filter(|(peer, _)| {
            chain
                .ledger()
                .account(peer)
                .is_some_and(|account| !account.banned)
        })
        .filter(|(_, evidence)| take(&mut room, evidence.encode().len()))
        .take(limits::EVIDENCE)
        .map(|(_, evidence)| evidence.clone())
        .collect()
}

fn contributions(
    chain: &Chain,
    material: &Material<'_>,
    base_root: StateRoot,
    tally: &Tally,
    evidence: &[Evidence],
) -> Vec<Envelope> {
    let offenders: BTreeSet<_> = evidence
        .iter()
        .map(|evidence| evidence.first.signer)
        .collect();
    let valid = material.commitments.iter().filter(|(peer, signed)| {
        signed.commitment.base_root == base_root
            && chain.allows_size(&signed.commitment)
            && !chain.ledger().is_banned(peer)
            && !offenders.contains(peer)
            && tally.supports(base_root, signed.hash, chain.ledger().roster())
    });
    let limit = usize::try_from(chain.manifest().limits.contributions).unwrap_or(usize::MAX);
    let chosen = choose(
        valid.map(|(peer, _)| *peer),
        limit,
        chain.ledger(),
        chain.seed(),
    );
    chosen
        .iter()
        .filter_map(|peer| material.commitments.get(peer))
        .map(|signed| signed.envelope.clone())
        .collect()
}

fn by_signer<'a>(envelopes: impl Iterator<Item = &'a Envelope>) -> Vec<Envelope> {
    let sorted: BTreeMap<_, _> = envelopes
        .map(|envelope| (envelope.signer, envelope))
        .collect();
    sorted.into_values().cloned().collect()
}

fn take(room: &mut usize, payload: usize) -> bool {
    match room.checked_sub(payload.saturating_add(ENVELOPE_OVERHEAD)) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}
