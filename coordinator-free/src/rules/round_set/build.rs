//! How a proposer builds a round set from the messages it has received.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{
    Attestation, Commitment, Envelope, EnvelopeHash, Evidence, Message, Named, PayloadHash, PeerId,
    RoundNumber, RoundSet, SlotId, StateRoot, Ticket, limits,
};

use super::check::leave;
use super::lists::Lists;
use super::tally::{Roots, Support};
use crate::rules::chain::Chain;
use crate::rules::signatures::Signatures;

/// Bytes that attestations of the round may take. The rest of a set is for contributions, late
/// attestations, leaves, tickets and evidence.
const ATTESTATION_BYTES: usize = limits::ROUND_SET_BYTES / 2;
/// Bytes that late attestations may take. What does not fit waits for the next round.
const LATE_BYTES: usize = limits::ROUND_SET_BYTES / 8;
/// Bytes that evidence may take. Evidence that does not fit waits for a later round.
const EVIDENCE_BYTES: usize = limits::ROUND_SET_BYTES / 8;
/// The most bytes that an envelope adds to its payload.
const ENVELOPE_OVERHEAD: usize = 192;

/// A commitment with its envelope's hash.
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

/// Attestations of a round, by attempt and signer.
pub(crate) type Attestations = BTreeMap<(u32, PeerId), (Envelope, Attestation)>;

/// What a proposer has received. All signatures are good.
pub(crate) struct Collected<'a> {
    /// Attestations of the round. Only members are among the signers.
    pub attestations: &'a Attestations,
    /// Commitments of the round, by signer.
    pub commitments: &'a BTreeMap<PeerId, SignedCommitment>,
    /// Attestations of earlier rounds, by round and signer.
    pub late: &'a BTreeMap<(RoundNumber, PeerId), Envelope>,
    /// Tickets, by signer.
    pub tickets: &'a BTreeMap<PeerId, Envelope>,
    /// Leaves, by signer.
    pub leaves: &'a BTreeMap<PeerId, Envelope>,
    /// Evidence, by the peer that it convicts.
    pub evidence: &'a BTreeMap<PeerId, Evidence>,
}

/// Builds the set to propose for the chain's next round. `None` as long as no base root has more
/// than two thirds of the weight behind it in any attempt.
pub(crate) fn build(
    chain: &Chain,
    collected: &Collected<'_>,
    signatures: &mut Signatures,
) -> Option<RoundSet> {
    let attempts: BTreeSet<_> = collected.attestations.keys().map(|(a, _)| *a).collect();
    let agreed = attempts
        .into_iter()
        .find_map(|attempt| Agreed::of(chain, collected, attempt))?;
    let evidence = evidence(chain, collected);
    let convicted: BTreeSet<_> = evidence.iter().map(|pair| pair.first.signer).collect();
    let chosen = agreed.contributions(chain, collected, &convicted)?;
    let leaves = collected
        .leaves
        .values()
        .filter(|envelope| leave(chain, envelope, signatures).is_ok());

    Some(RoundSet {
        round: chain.round(),
        parent: chain.parent(),
        base_root: agreed.base_root,
        ledger_root: chain.ledger_root(),
        named: agreed.named(&chosen),
        contributions: chosen.into_values().collect(),
        attestations: agreed.attestations.into_values().collect(),
        leaves: leaves.take(limits::LEAVES).cloned().collect(),
        evidence,
        attempt: agreed.attempt,
        differences: agreed.lists.differences(),
        late: late(chain, collected),
        tickets: tickets(chain, collected),
        gone: Vec::new(),
    })
}

/// An attempt in which voters agree on a base root, and what its attestations support.
struct Agreed {
    attempt: u32,
    base_root: StateRoot,
    attestations: BTreeMap<PeerId, Envelope>,
    lists: Lists,
    support: Support,
    /// Every commitment that an attestation of the base root found valid.
    valid: BTreeSet<(SlotId, PayloadHash)>,
}

impl Agreed {
    fn of(chain: &Chain, collected: &Collected<'_>, attempt: u32) -> Option<Self> {
        let roster = chain.ledger().roster();
        let heaviest = heaviest(chain, collected, attempt);
        let mut roots = Roots::default();
        for (envelope, attestation) in &heaviest {
            roots.add(roster.weight(&envelope.signer), attestation.base_root);
        }
        let base_root = roots.agreed(roster)?;
        let (named, second) = commitments(chain, collected);
        let mut agreed = Self {
            attempt,
            base_root,
            attestations: BTreeMap::new(),
            lists: Lists::new(named, &[]),
            support: Support::default(),
            valid: BTreeSet::new(),
        };
        for (envelope, attestation) in heaviest {
            let peer = envelope.signer;
            if attestation.base_root == base_root {
                // Of one whose list is not understood yet, a commitment is missing here.
                let Some(list) = agreed.lists.resolve(peer, attestation, &second) else {
                    continue;
                };
                agreed.support.add(roster.weight(&peer), &list);
                agreed.valid.extend(list);
            }
            agreed.attestations.insert(peer, envelope.clone());
        }
        agreed.support.is_quorum(roster).then_some(agreed)
    }

    /// The contributions that must be chosen, by place; `None` if one of them is missing here.
    fn contributions(
        &self,
        chain: &Chain,
        collected: &Collected<'_>,
        convicted: &BTreeSet<PeerId>,
    ) -> Option<BTreeMap<SlotId, Envelope>> {
        let mut chosen = BTreeMap::new();
        for (slot, commitment) in self.support.supported(chain.ledger().roster()) {
            let peer = chain.places().holder(slot)?;
            if convicted.contains(&peer) || chosen.len() >= super::most_contributions(chain) {
                continue;
            }
            let signed = collected.commitments.get(&peer)?;
            if signed.envelope.payload_hash() != commitment {
                return None;
            }
            chosen.insert(slot, signed.envelope.clone());
        }
        Some(chosen)
    }

    /// What the set must name besides the chosen contributions.
    fn named(&self, chosen: &BTreeMap<SlotId, Envelope>) -> Vec<Named> {
        let meant = |(slot, commitment): &&(SlotId, PayloadHash)| {
            !chosen.contains_key(slot) && self.lists.named(*slot) == Some(*commitment)
        };
        self.valid
            .iter()
            .filter(meant)
            .map(|(slot, commitment)| Named {
                slot: *slot,
                commitment: *commitment,
            })
            .collect()
    }
}

/// The first commitment of each place, and the second of those that committed twice.
fn commitments(
    chain: &Chain,
    collected: &Collected<'_>,
) -> (BTreeMap<SlotId, PayloadHash>, BTreeMap<SlotId, PayloadHash>) {
    let places = chain.places();
    let first: BTreeMap<_, _> = collected
        .commitments
        .iter()
        .filter_map(|(peer, signed)| Some((places.slot_of(peer)?, signed.envelope.payload_hash())))
        .collect();
    let second = collected.evidence.iter().filter_map(|(peer, pair)| {
        let slot = places.slot_of(peer)?;
        let both = [&pair.first, &pair.second];
        let other = both.into_iter().find(|envelope| {
            envelope.open::<Commitment>().is_ok()
                && first.get(&slot) != Some(&envelope.payload_hash())
        })?;
        Some((slot, other.payload_hash()))
    });
    let second = second.collect();
    (first, second)
}

/// As many attestations of an attempt as fit. Those of the heaviest voters come first.
fn heaviest<'a>(
    chain: &Chain,
    collected: &Collected<'a>,
    attempt: u32,
) -> Vec<&'a (Envelope, Attestation)> {
    let roster = chain.ledger().roster();
    let mut heaviest: Vec<_> = collected
        .attestations
        .iter()
        .filter(|((of, peer), _)| *of == attempt && chain.may_attest(peer))
        .map(|(_, attested)| attested)
        .collect();
    heaviest.sort_by_key(|(envelope, _)| std::cmp::Reverse(roster.weight(&envelope.signer)));
    let mut bytes_left = ATTESTATION_BYTES;
    heaviest
        .into_iter()
        .filter(|(envelope, _)| fits(&mut bytes_left, envelope.payload.len()))
        .take(limits::VOTERS)
        .collect()
}

/// Attestations that earlier rounds lack, the oldest first: their time ends soonest.
fn late(chain: &Chain, collected: &Collected<'_>) -> Vec<Envelope> {
    let mut bytes_left = LATE_BYTES;
    collected
        .late
        .iter()
        .filter(|((round, peer), _)| chain.allows_late(peer, *round))
        .filter(|(_, envelope)| fits(&mut bytes_left, envelope.payload.len()))
        .take(limits::LATE)
        .map(|(_, envelope)| envelope.clone())
        .collect()
}

/// The tickets with the most work: whoever is left out can do more.
fn tickets(chain: &Chain, collected: &Collected<'_>) -> Vec<Envelope> {
    let run = chain.run();
    let mut best: Vec<_> = collected
        .tickets
        .iter()
        .filter_map(|(peer, envelope)| Some((peer, envelope, envelope.open::<Ticket>().ok()?)))
        .filter(|(peer, _, ticket)| chain.allows_ticket(peer, ticket))
        .map(|(peer, envelope, ticket)| (ticket.work_bits(run, *peer), peer, envelope))
        .collect();
    best.sort_by_key(|(bits, peer, _)| (std::cmp::Reverse(*bits), **peer));
    best.truncate(limits::TICKETS.min(chain.ledger().room_for_tickets()));
    let by_signer: BTreeMap<_, _> = best
        .into_iter()
        .map(|(_, peer, envelope)| (*peer, envelope.clone()))
        .collect();
    by_signer.into_values().collect()
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
