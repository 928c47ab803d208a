//! Public randomness of each round: known to all once the round before is decided, and to nobody
//! sooner.
//!
//! The seed of a round covers every decided round set before it, so whoever wanted to bend it would
//! have to bend decisions. A proposer can try a few sets of its own (leave one contribution out, or
//! not): what hangs on the seed is therefore only the order of proposers and of samples, nothing
//! that pays.

use weal_proto::{PeerId, RoundSetHash, RunId, Seed};

const CONTEXT: &str = "commonweal beacon v1";
const RANK_CONTEXT: &str = "commonweal rank v1";

/// The seed of round 0.
pub fn genesis(run: RunId) -> Seed {
    blake3::derive_key(CONTEXT, run.as_bytes()).into()
}

/// The seed of the round after one with this seed and this decision.
pub fn next(seed: Seed, decided: RoundSetHash) -> Seed {
    blake3::derive_key(CONTEXT, &[*seed.as_bytes(), *decided.as_bytes()].concat()).into()
}

/// A peer's place in the round's random order of peers: the smaller, the earlier. Keys cannot be
/// made to measure for it, because the seed comes after them.
pub fn rank(seed: Seed, peer: PeerId) -> [u8; 32] {
    blake3::derive_key(RANK_CONTEXT, &[*seed.as_bytes(), *peer.as_bytes()].concat())
}
