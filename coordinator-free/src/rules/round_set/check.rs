//! When a round set is valid.

use std::collections::BTreeSet;

use weal_proto::{Attestation, Commitment, Envelope, Leave, PeerId, RoundSet};

use super::tally::Tally;
use crate::rules::chain::Chain;
use crate::rules::evidence;
use crate::rules::invalid::Invalid;
use crate::rules::signatures::Signatures;

/// Whether a set may be the decision of the chain's next round. Cheap checks come first.
///
/// # Errors
/// The first rule that the set breaks.
pub(crate) fn check(
    chain: &Chain,
    set: &RoundSet,
    signatures: &mut Signatures,
) -> Result<(), Invalid> {
    history(chain, set)?;
    let limits = &chain.manifest().limits;
    if set.contributions.len() > usize::try_from(limits.contributions).unwrap_or(usize::MAX) {
        return Err(Invalid::TooMany);
    }
    ascending(
        "contributions",
        set.contributions.iter().map(|envelope| envelope.signer),
    )?;
    ascending(
        "attestations",
        set.attestations.iter().map(|envelope| envelope.signer),
    )?;
    ascending("leaves", set.leaves.iter().map(|envelope| envelope.signer))?;
    ascending(
        "evidence",
        set.evidence.iter().map(|evidence| evidence.first.signer),
    )?;

    let equivocators = equivocators(chain, set, signatures)?;
    for envelope in &set.leaves {
        leave(chain, envelope, signatures)?;
    }
    let tally = attestations(chain, set, signatures)?;
    for envelope in &set.contributions {
        contribution(chain, set, envelope, &equivocators, &tally, signatures)?;
    }
    Ok(())
}

fn history(chain: &Chain, set: &RoundSet) -> Result<(), Invalid> {
    if set.round != chain.round() {
        return Err(Invalid::Round {
            found: set.round,
            expected: chain.round(),
        });
    }
    if set.parent != chain.parent() {
        return Err(Invalid::Parent);
    }
    if set.ledger_root != chain.ledger_root() {
        return Err(Invalid::LedgerRoot);
    }
    Ok(())
}

fn ascending(what: &'static str, signers: impl Iterator<Item = PeerId>) -> Result<(), Invalid> {
    let mut last = None;
    for signer in signers {
        if last.is_some_and(|last| last >= signer) {
            return Err(Invalid::Order(what));
        }
        last = Some(signer);
    }
    Ok(())
}

/// Only peers in the ledger can be banned: evidence against strangers would make the ledger grow
/// without limit.
fn equivocators(
    chain: &Chain,
    set: &RoundSet,
    signatures: &mut Signatures,
) -> Result<BTreeSet<PeerId>, Invalid> {
    set.evidence
        .iter()
        .map(|evidence| {
            let proven = evidence::check(evidence, signatures)?;
            let new = chain
                .ledger()
                .account(&proven.peer)
                .is_some_and(|account| !account.banned);
            if new && proven.slot.round() <= chain.round() {
                Ok(proven.peer)
            } else {
                Err(Invalid::Evidence(proven.peer))
            }
        })
        .collect()
}

/// A leave signed before the member's last contribution is stale: a peer that contributes has not
/// left.
pub(super) fn leave(
    chain: &Chain,
    envelope: &Envelope,
    signatures: &mut Signatures,
) -> Result<(), Invalid> {
    let peer = envelope.signer;
    let account = chain
        .ledger()
        .account(&peer)
        .filter(|account| account.member)
        .ok_or(Invalid::Leave(peer))?;
    let leave: Leave = envelope.open().map_err(|_| Invalid::Leave(peer))?;
    if leave.round > chain.round() || leave.round.next() < account.contributed_until {
        return Err(Invalid::Leave(peer));
    }
    signed(envelope, signatures)
}

fn attestations(
    chain: &Chain,
    set: &RoundSet,
    signatures: &mut Signatures,
) -> Result<Tally, Invalid> {
    let roster = chain.ledger().roster();
    let mut tally = Tally::default();
    for envelope in &set.attestations {
        let peer = envelope.signer;
        let attestation: Attestation = envelope.open().map_err(|_| Invalid::Attestation(peer))?;
        if attestation.round != set.round || !chain.may_attest(&peer) {
            return Err(Invalid::Attestation(peer));
        }
        signed(envelope, signatures)?;
        tally.add(roster.weight(&peer), &attestation);
    }
    if tally.agrees(set.base_root, roster) {
        Ok(tally)
    } else {
        Err(Invalid::AttestationWeight)
    }
}

fn contribution(
    chain: &Chain,
    set: &RoundSet,
    envelope: &Envelope,
    equivocators: &BTreeSet<PeerId>,
    tally: &Tally,
    signatures: &mut Signatures,
) -> Result<(), Invalid> {
    let peer = envelope.signer;
    let commitment: Commitment = envelope.open().map_err(|_| Invalid::Contribution(peer))?;
    let of_this_round = commitment.round == set.round && commitment.base_root == set.base_root;
    let welcome = !chain.ledger().is_banned(&peer) && !equivocators.contains(&peer);
    if !of_this_round || !welcome || !chain.allows_size(&commitment) {
        return Err(Invalid::Contribution(peer));
    }
    if !tally.supports(set.base_root, envelope.hash(), chain.ledger().roster()) {
        return Err(Invalid::Support(peer));
    }
    signed(envelope, signatures)
}

fn signed(envelope: &Envelope, signatures: &mut Signatures) -> Result<(), Invalid> {
    if signatures.check(envelope) {
        Ok(())
    } else {
        Err(Invalid::Signature(envelope.signer))
    }
}
