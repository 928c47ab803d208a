//! When two signed messages contradict each other.
//!
//! An honest peer signs at most one message for each [`Slot`], across crashes and restarts: its own
//! is on disk before it is on the wire, and is signed anew with the same bytes. Two with different
//! payloads are therefore proof, for everybody and for ever. Two signatures under one payload prove
//! nothing.

use weal_proto::{
    Attestation, Commitment, DecodeError, Envelope, Evidence, Kind, PeerId, Proposal, RoundNumber,
    View, Vote, VoteStep,
};

use crate::rules::round_set::Invalid;
use crate::rules::signatures::Signatures;

/// What a peer may say only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// What it trained in a round.
    Commitment(RoundNumber),
    /// What it found in a round.
    Attestation(RoundNumber),
    /// What it proposes in a view.
    Proposal(RoundNumber, View),
    /// What it votes for in a step of a view.
    Vote(RoundNumber, View, VoteStep),
}

impl Slot {
    /// The slot of a message; `None` for the kinds that may be said again.
    ///
    /// # Errors
    /// When the payload is not a canonical message of the envelope's kind.
    pub fn of(envelope: &Envelope) -> Result<Option<Self>, DecodeError> {
        Ok(match envelope.kind {
            Kind::Commitment => Some(Self::Commitment(envelope.open::<Commitment>()?.round)),
            Kind::Attestation => Some(Self::Attestation(envelope.open::<Attestation>()?.round)),
            Kind::Proposal => {
                let proposal = envelope.open::<Proposal>()?;
                Some(Self::Proposal(proposal.round, proposal.view))
            }
            Kind::Vote => {
                let vote = envelope.open::<Vote>()?;
                Some(Self::Vote(vote.round, vote.view, vote.step))
            }
            Kind::ViewCertificate | Kind::Leave => None,
        })
    }

    /// The round it belongs to.
    pub const fn round(self) -> RoundNumber {
        match self {
            Self::Commitment(round)
            | Self::Attestation(round)
            | Self::Proposal(round, _)
            | Self::Vote(round, _, _) => round,
        }
    }
}

/// A proven contradiction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offence {
    /// Who contradicted itself.
    pub peer: PeerId,
    /// Where.
    pub slot: Slot,
}

/// Puts two messages together in their one order.
pub fn pair(one: Envelope, other: Envelope) -> Evidence {
    if one.hash() < other.hash() {
        Evidence {
            first: one,
            second: other,
        }
    } else {
        Evidence {
            first: other,
            second: one,
        }
    }
}

/// What the evidence proves.
///
/// # Errors
/// When it proves nothing: other signers, slots that differ, one payload twice, a wrong order, a
/// bad signature.
pub fn check(evidence: &Evidence, signatures: &mut Signatures) -> Result<Offence, Invalid> {
    let Evidence { first, second } = evidence;
    let peer = first.signer;
    let no_proof = Invalid::Evidence(peer);
    let of_one_place =
        peer == second.signer && first.kind == second.kind && first.payload != second.payload;
    if !of_one_place || first.hash() >= second.hash() {
        return Err(no_proof);
    }
    match (Slot::of(first), Slot::of(second)) {
        (Ok(Some(slot)), Ok(Some(other))) if slot == other => {
            if signatures.check(first) && signatures.check(second) {
                Ok(Offence { peer, slot })
            } else {
                Err(no_proof)
            }
        }
        _ => Err(no_proof),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{commitment, key, run, signatures};

    fn two(seeds: (u8, u8), rounds: (u64, u64), blobs: (u8, u8)) -> Evidence {
        let envelope =
            |seed, round, blob| Envelope::sign(&key(seed), run(), &commitment(round, blob));
        pair(
            envelope(seeds.0, rounds.0, blobs.0),
            envelope(seeds.1, rounds.1, blobs.1),
        )
    }

    #[test]
    fn two_commitments_of_one_round_prove_an_offence() {
        let offence = check(&two((1, 1), (3, 3), (1, 2)), &mut signatures());
        assert_eq!(
            offence,
            Ok(Offence {
                peer: key(1).peer(),
                slot: Slot::Commitment(RoundNumber(3))
            })
        );
    }

    #[test]
    fn messages_that_may_stand_beside_each_other_prove_nothing() {
        for evidence in [
            two((1, 1), (3, 4), (1, 2)),
            two((1, 2), (3, 3), (1, 2)),
            two((1, 1), (3, 3), (1, 1)),
        ] {
            assert!(check(&evidence, &mut signatures()).is_err());
        }
    }

    #[test]
    fn the_order_is_fixed_and_signatures_are_checked() {
        let good = two((1, 1), (3, 3), (1, 2));
        let turned = Evidence {
            first: good.second.clone(),
            second: good.first.clone(),
        };
        assert!(check(&turned, &mut signatures()).is_err());
        let mut forged = good;
        forged.second.signature = forged.first.signature;
        assert!(check(&forged, &mut signatures()).is_err());
    }
}
