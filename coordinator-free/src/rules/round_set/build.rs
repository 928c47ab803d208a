//! How a proposer builds a round set from the messages it has received.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{
    Attestation, Commitment, Envelope, EnvelopeHash, Evidence, Message, PeerId, RoundSet, limits,
};

use super::check::leave;
use super::choose::choose;
use super::tally::Tally;
use crate::rules::chain::Chain;
use crate::rules::signatures::Signatures;

/// Bytes that attestations may take. The rest of a set is for contributions, leaves and evidence.
const ATTESTATION_BYTES: usize = limits::ROUND_SET_BYTES * 5 / 8;
/// Bytes that evidence may take. Evidence that does not fit waits for a later round.
const EVIDENCE_BYTES: usize = limits::ROUND_SET_BYTES / 4;
/// The most bytes that an envelope adds to its payload.
const ENVELOPE_OVERHEAD: usize = 192;

/// A commitment with its envelope's hash, by which findings refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedCommitment {
    pub envelope: Envelope,
    pub hash: EnvelopeHash,
    pub commitment: Commitment,
}

impl SignedCommitment {
    pub(crate) fn new(envelope: Envelope, commitment: Commitment) -> Self {
        Self {
            hash: envelope.hash(),
            envelope,
            commitment,
        }
    }
}

/// What a proposer has received. All signatures are good.
pub(crate) struct Collected<'a> {
    /// Attestations of the round, by signer. Only members are among the signers.
    pub attestations: &'a BTreeMap<PeerId, (Envelope, Attestation)>,
    /// Commitments of the round, by signer.
    pub commitments: &'a BTreeMap<PeerId, SignedCommitment>,
    /// Leaves, by signer.
    pub leaves: &'a BTreeMap<PeerId, Envelope>,
    /// Evidence, by the peer that it convicts.
    pub evidence: &'a BTreeMap<PeerId, Evidence>,
}

/// Builds the set to propose for the chain's next round: every contribution with enough support, up
/// to the manifest's limit. `None` as long as no base root has more than two thirds of the weight
/// behind it.
pub(crate) fn build(
    chain: &Chain,
    collected: &Collected<'_>,
    signatures: &mut Signatures,
) -> Option<RoundSet> {
    let attestations = attestations(chain, collected);
    let roster = chain.ledger().roster();
    let mut tally = Tally::default();
    for (envelope, attestation) in &attestations {
        tally.add(roster.weight(&envelope.signer), attestation);
    }
    let base_root = tally.agreed_root(roster)?;
    let evidence = evidence(chain, collected);
    let equivocators = evidence.iter().map(|pair| pair.first.signer).collect();
    let is_supported = |signed: &SignedCommitment| {
        signed.commitment.base_root == base_root && tally.supports(base_root, signed.hash, roster)
    };
    let leaves = collected
        .leaves
        .values()
        .filter(|envelope| leave(chain, envelope, signatures).is_ok());

    Some(RoundSet {
        round: chain.round(),
        parent: chain.parent(),
        base_root,
        ledger_root: chain.ledger_root(),
        contributions: contributions(chain, collected, &equivocators, is_supported),
        attestations: by_signer(attestations.iter().map(|attested| &attested.0)),
        leaves: leaves.take(limits::LEAVES).cloned().collect(),
        evidence,
    })
}

/// As many attestations as fit. Those of the heaviest voters come first.
fn attestations<'a>(chain: &Chain, collected: &Collected<'a>) -> Vec<&'a (Envelope, Attestation)> {
    let roster = chain.ledger().roster();
    let mut heaviest: Vec<_> = collected
        .attestations
        .iter()
        .filter(|(peer, _)| chain.may_attest(peer))
        .collect();
    heaviest.sort_by_key(|(peer, _)| std::cmp::Reverse(roster.weight(peer)));
    let mut bytes_left = ATTESTATION_BYTES;
    heaviest
        .into_iter()
        .take(limits::VOTERS)
        .take_while(|(_, (envelope, _))| fits(&mut bytes_left, envelope.payload.len()))
        .map(|(_, attested)| attested)
        .collect()
}

fn evidence(chain: &Chain, collected: &Collected<'_>) -> Vec<Evidence> {
    let mut bytes_left = EVIDENCE_BYTES;
    collected
        .evidence
        .iter()
        .filter(|(peer, _)| {
            chain
                .ledger()
                .account(peer)
                .is_some_and(|account| !account.banned)
        })
        .filter(|(_, evidence)| fits(&mut bytes_left, evidence.encode().len()))
        .take(limits::EVIDENCE)
        .map(|(_, evidence)| evidence.clone())
        .collect()
}

/// The supported contributions of peers that are not banned, up to the manifest's limit.
fn contributions(
    chain: &Chain,
    collected: &Collected<'_>,
    equivocators: &BTreeSet<PeerId>,
    is_supported: impl Fn(&SignedCommitment) -> bool,
) -> Vec<Envelope> {
    let valid = collected.commitments.iter().filter(|(peer, signed)| {
        chain.allows_size(&signed.commitment)
            && !chain.ledger().is_banned(peer)
            && !equivocators.contains(peer)
            && is_supported(signed)
    });
    let limit = usize::try_from(chain.manifest().limits.contributions).unwrap_or(usize::MAX);
    let candidates = valid.map(|(peer, _)| *peer);
    choose(candidates, limit, chain.ledger(), chain.seed())
        .iter()
        .filter_map(|peer| collected.commitments.get(peer))
        .map(|signed| signed.envelope.clone())
        .collect()
}

fn by_signer<'a>(envelopes: impl Iterator<Item = &'a Envelope>) -> Vec<Envelope> {
    let sorted: BTreeMap<_, _> = envelopes
        .map(|envelope| (envelope.signer, envelope))
        .collect();
    sorted.into_values().cloned().collect()
}

/// Takes an envelope's bytes from `bytes_left`, if that many are left.
fn fits(bytes_left: &mut usize, payload: usize) -> bool {
    match bytes_left.checked_sub(payload.saturating_add(ENVELOPE_OVERHEAD)) {
        Some(left) => {
            *bytes_left = left;
            true
        }
        None => false,
    }
}
