//! Public randomness for each round. Everyone knows a round's seed once the round before it is
//! decided, and nobody knows it earlier.
//!
//! A seed covers all decided round sets before its round, so an attacker that wants to choose it
//! has to choose decisions. A proposer can try a few sets of its own (with and without one
//! attestation). Therefore the seed orders samples, the places of equals and committees, and never
//! who proposes.

use weal_proto::{PeerId, RoundSetHash, RunId, Seed};

const CONTEXT: &str = "commonweal beacon v1";
const RANK_CONTEXT: &str = "commonweal rank v1";

/// The seed of round 0.
pub(crate) fn genesis(run: RunId) -> Seed {
    blake3::derive_key(CONTEXT, run.as_bytes()).into()
}

/// The seed of the next round, from this round's seed and decision.
pub(crate) fn next(seed: Seed, decided: RoundSetHash) -> Seed {
    blake3::derive_key(CONTEXT, &[*seed.as_bytes(), *decided.as_bytes()].concat()).into()
}

/// A peer's rank in the round's random order of peers; the smallest comes first. A peer cannot pick
/// a key that ranks well, because the seed is drawn after keys are fixed.
pub(crate) fn rank(seed: Seed, peer: PeerId) -> [u8; 32] {
    blake3::derive_key(RANK_CONTEXT, &[*seed.as_bytes(), *peer.as_bytes()].concat())
}
