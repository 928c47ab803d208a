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
    let mut check = Check {
        chain,
        set,
        signatures,
    };
    check.history()?;
    check.lists()?;
    let equivocators = check.evidence()?;
    for envelope in &set.leaves {
        leave(chain, envelope, check.signatures)?;
    }
    let tally = check.attestations()?;
    for envelope in &set.contributions {
        check.contribution(envelope, &equivocators, &tally)?;
    }
    Ok(())
}

struct Check<'a> {
    chain: &'a Chain,
    set: &'a RoundSet,
    signatures: &'a mut Signatures,
}

impl Check<'_> {
    /// The set follows this history and no other.
    fn history(&self) -> Result<(), Invalid> {
        let Self { chain, set, .. } = self;
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

    /// The lists are sorted by signer, and the contributions are within the manifest's limit.
    fn lists(&self) -> Result<(), Invalid> {
        let set = self.set;
        let limit = self.chain.manifest().limits.contributions;
        if set.contributions.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
            return Err(Invalid::TooMany);
        }
        ascending("contributions", set.contributions.iter().map(signer))?;
        ascending("attestations", set.attestations.iter().map(signer))?;
        ascending("leaves", set.leaves.iter().map(signer))?;
        let convicted = set.evidence.iter().map(|pair| pair.first.signer);
        ascending("evidence", convicted)
    }

    /// Only peers in the ledger can be banned: evidence against strangers would make the ledger
    /// grow without limit.
    fn evidence(&mut self) -> Result<BTreeSet<PeerId>, Invalid> {
        let mut equivocators = BTreeSet::new();
        for pair in &self.set.evidence {
            let proven = evidence::check(pair, self.signatures)?;
            let account = self.chain.ledger().account(&proven.peer);
            let new = account.is_some_and(|account| !account.banned);
            if !new || proven.slot.round() > self.chain.round() {
                return Err(Invalid::Evidence(proven.peer));
            }
            equivocators.insert(proven.peer);
        }
        Ok(equivocators)
    }

    /// More than two thirds of the weight attest the set's base root.
    fn attestations(&mut self) -> Result<Tally, Invalid> {
        let roster = self.chain.ledger().roster();
        let mut tally = Tally::default();
        for envelope in &self.set.attestations {
            let peer = envelope.signer;
            let attestation: Attestation =
                envelope.open().map_err(|_| Invalid::Attestation(peer))?;
            if attestation.round != self.set.round || !self.chain.may_attest(&peer) {
                return Err(Invalid::Attestation(peer));
            }
            signed(envelope, self.signatures)?;
            tally.add(roster.weight(&peer), &attestation);
        }
        if tally.agrees(self.set.base_root, roster) {
            Ok(tally)
        } else {
            Err(Invalid::AttestationWeight)
        }
    }

    /// A contribution is for this round and base root, its peer is not banned, and more than two
    /// thirds of the weight found it valid.
    fn contribution(
        &mut self,
        envelope: &Envelope,
        equivocators: &BTreeSet<PeerId>,
        tally: &Tally,
    ) -> Result<(), Invalid> {
        let Self { chain, set, .. } = self;
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
        signed(envelope, self.signatures)
    }
}

const fn signer(envelope: &Envelope) -> PeerId {
    envelope.signer
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

fn signed(envelope: &Envelope, signatures: &mut Signatures) -> Result<(), Invalid> {
    if signatures.check(envelope) {
        Ok(())
    } else {
        Err(Invalid::Signature(envelope.signer))
    }
}
