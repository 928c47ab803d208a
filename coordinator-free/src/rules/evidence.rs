//! When two signed messages contradict each other.
//!
//! An honest peer signs at most one message for each [`Slot`]. Two messages for one slot with
//! different payloads therefore prove equivocation, to everyone and for ever. Two signatures over
//! the same payload prove nothing.

use weal_proto::{Envelope, Evidence, PeerId};

use crate::rules::content::Content;
use crate::rules::invalid::Invalid;
use crate::rules::signatures::Signatures;
use crate::rules::slot::Slot;

/// A proven contradiction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Equivocation {
    /// The peer that contradicted itself.
    pub peer: PeerId,
    /// The slot that it signed two messages for.
    pub slot: Slot,
}

/// Pairs two messages in the order that evidence must have: by hash.
pub(crate) fn pair(one: Envelope, other: Envelope) -> Evidence {
    let (one, other) = (one.bare(), other.bare());
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
/// When it proves nothing: the signers or the slots differ, the payloads are the same, the order is
/// wrong, or a signature does not verify.
pub(crate) fn check(
    evidence: &Evidence,
    signatures: &mut Signatures,
) -> Result<Equivocation, Invalid> {
    let Evidence { first, second } = evidence;
    let peer = first.signer;
    let no_proof = Invalid::Evidence(peer);
    let may_contradict =
        peer == second.signer && first.kind == second.kind && first.payload != second.payload;
    if !may_contradict || first.hash() >= second.hash() {
        return Err(no_proof);
    }
    match (slot(first), slot(second)) {
        (Some(slot), Some(other)) if slot == other => {
            if signatures.check(first) && signatures.check(second) {
                Ok(Equivocation { peer, slot })
            } else {
                Err(no_proof)
            }
        }
        _ => Err(no_proof),
    }
}

fn slot(envelope: &Envelope) -> Option<Slot> {
    Content::decode(envelope).ok()?.slot()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fixtures::{commitment, key, run, signatures};
    use weal_proto::RoundNumber;

    fn two(seeds: (u8, u8), rounds: (u64, u64), blobs: (u8, u8)) -> Evidence {
        let envelope =
            |seed, round, blob| Envelope::sign(&key(seed), run(), &commitment(round, blob));
        pair(
            envelope(seeds.0, rounds.0, blobs.0),
            envelope(seeds.1, rounds.1, blobs.1),
        )
    }

    #[test]
    fn two_commitments_in_one_round_prove_equivocation() {
        let proven = check(&two((1, 1), (3, 3), (1, 2)), &mut signatures());
        assert_eq!(
            proven,
            Ok(Equivocation {
                peer: key(1).peer(),
                slot: Slot::Commitment(RoundNumber(3))
            })
        );
    }

    #[test]
    fn messages_that_an_honest_peer_may_sign_prove_nothing() {
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
        let reversed = Evidence {
            first: good.second.clone(),
            second: good.first.clone(),
        };
        assert!(check(&reversed, &mut signatures()).is_err());
        let mut forged = good;
        forged.second.signature = forged.first.signature;
        assert!(check(&forged, &mut signatures()).is_err());
    }
}
