//! When a round set is valid.

use std::collections::BTreeSet;

use weal_proto::{Attestation, Commitment, Envelope, Leave, PeerId, RoundSet, Ticket};

use super::lists::Lists;
use super::tally::Support;
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
    let convicted = check.evidence()?;
    for envelope in &set.leaves {
        leave(chain, envelope, check.signatures)?;
    }
    check.tickets()?;
    let support = check.attestations()?;
    check.contributions(&convicted, &support)?;
    check.late()
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

    /// The lists are sorted, and the contributions are within the manifest's limit.
    fn lists(&self) -> Result<(), Invalid> {
        let set = self.set;
        if !set.gone.is_empty() {
            return Err(Invalid::Recovery);
        }
        if set.contributions.len() > super::most_contributions(self.chain) {
            return Err(Invalid::TooMany);
        }
        ascending("attestations", set.attestations.iter().map(signer))?;
        ascending("leaves", set.leaves.iter().map(signer))?;
        ascending("tickets", set.tickets.iter().map(signer))?;
        let convicted = set.evidence.iter().map(|pair| pair.first.signer);
        ascending("evidence", convicted)?;
        ascending("named", set.named.iter().map(|named| named.slot))?;
        let differences = set.differences.iter().map(|d| (d.peer, d.slot));
        ascending("differences", differences)
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

    /// More than two thirds of the weight attest the set's base root, all in one attempt, and the
    /// set says which commitments they speak of.
    fn attestations(&mut self) -> Result<Support, Invalid> {
        let Self { chain, set, .. } = *self;
        let roster = chain.ledger().roster();
        let chosen = set.contributions.iter().filter_map(|envelope| {
            let slot = chain.places().slot_of(&envelope.signer)?;
            Some((slot, envelope.payload_hash()))
        });
        let named = set.named.iter().map(|named| (named.slot, named.commitment));
        let lists = Lists::new(named.chain(chosen), &set.differences);
        let mut support = Support::default();
        for envelope in &set.attestations {
            let peer = envelope.signer;
            let attestation: Attestation =
                envelope.open().map_err(|_| Invalid::Attestation(peer))?;
            let of_this = attestation.round == set.round && attestation.attempt == set.attempt;
            if !of_this || !chain.may_attest(&peer) {
                return Err(Invalid::Attestation(peer));
            }
            signed(envelope, self.signatures)?;
            if attestation.base_root == set.base_root {
                let list = lists.of(peer, &attestation).ok_or(Invalid::List(peer))?;
                support.add(roster.weight(&peer), &list);
            }
        }
        if support.is_quorum(roster) {
            Ok(support)
        } else {
            Err(Invalid::AttestationWeight)
        }
    }

    /// The contributions are exactly those that the attestations support, less those of convicted
    /// peers: the first ones by place, up to the manifest's limit. Whoever proposes has no choice.
    fn contributions(
        &mut self,
        convicted: &BTreeSet<PeerId>,
        support: &Support,
    ) -> Result<(), Invalid> {
        let Self { chain, set, .. } = *self;
        let roster = chain.ledger().roster();
        let due = support.supported(roster).filter(|(slot, _)| {
            let holder = chain.places().holder(*slot);
            holder.is_some_and(|peer| !convicted.contains(&peer))
        });
        let mut given = set.contributions.iter();
        for (slot, commitment) in due.take(super::most_contributions(chain)) {
            let envelope = given.next().ok_or(Invalid::Contributions(slot))?;
            if chain.places().holder(slot) != Some(envelope.signer)
                || envelope.payload_hash() != commitment
            {
                return Err(Invalid::Contributions(slot));
            }
            self.contribution(envelope)?;
        }
        match given.next() {
            None => Ok(()),
            Some(envelope) => Err(Invalid::Contribution(envelope.signer)),
        }
    }

    /// A contribution is for this round and base root, and its peer is not banned.
    fn contribution(&mut self, envelope: &Envelope) -> Result<(), Invalid> {
        let Self { chain, set, .. } = *self;
        let peer = envelope.signer;
        let commitment: Commitment = envelope.open().map_err(|_| Invalid::Contribution(peer))?;
        let of_this_round = commitment.round == set.round && commitment.base_root == set.base_root;
        if !of_this_round || chain.ledger().is_banned(&peer) || !chain.allows(&commitment) {
            return Err(Invalid::Contribution(peer));
        }
        signed(envelope, self.signatures)
    }

    /// Late attestations are of recent rounds, and each is decided for the first time.
    fn late(&mut self) -> Result<(), Invalid> {
        let mut keys = Vec::new();
        for envelope in &self.set.late {
            let peer = envelope.signer;
            let attestation: Attestation = envelope.open().map_err(|_| Invalid::Late(peer))?;
            if !self.chain.allows_late(&peer, attestation.round) {
                return Err(Invalid::Late(peer));
            }
            signed(envelope, self.signatures)?;
            keys.push((attestation.round, peer));
        }
        ascending("late attestations", keys.into_iter())
    }

    fn tickets(&mut self) -> Result<(), Invalid> {
        let room = self.chain.ledger().room_for_tickets();
        for (number, envelope) in self.set.tickets.iter().enumerate() {
            let peer = envelope.signer;
            let ticket: Ticket = envelope.open().map_err(|_| Invalid::Ticket(peer))?;
            if number >= room || !self.chain.allows_ticket(&peer, &ticket) {
                return Err(Invalid::Ticket(peer));
            }
            signed(envelope, self.signatures)?;
        }
        Ok(())
    }
}

const fn signer(envelope: &Envelope) -> PeerId {
    envelope.signer
}

fn ascending<K: Ord>(what: &'static str, mut keys: impl Iterator<Item = K>) -> Result<(), Invalid> {
    if keys.by_ref().is_sorted_by(|a, b| a < b) {
        Ok(())
    } else {
        Err(Invalid::Order(what))
    }
}

/// A leave is stale once the member was heard in a later round: a peer that goes on has not left.
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
    if leave.round > chain.round() || account.outlived_leave(leave.round) {
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
