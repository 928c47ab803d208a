//! What peers train, send and apply.
//!
//! The simulator itself knows contributions and weights by their hashes. What stands behind the
//! hashes is up to a [`Learning`]: nothing at all in [`HashChain`], a small model with real
//! gradients in the crate `weal-simulator`.

use std::ops::RangeInclusive;

use weal_proto::{
    BlobHash, Decided, PeerId, RoundNumber, RunId, Samples, Score, Seed, StateRoot, Verdict,
};

use super::random::Random;
use crate::interface::input::Signal;
use crate::interface::output::{Apply, Candidate, Fetch, Judge};
use crate::interface::share::Share;
use crate::interface::time::Millis;
use crate::rules::chain::Chain;

/// What a typical contribution does to the loss, in parts per million.
const TYPICAL_PPM: i32 = 10_000;

/// What one peer is to train in a round.
#[derive(Debug, Clone)]
pub struct Task {
    /// The peer's index, from 0.
    pub index: usize,
    /// The peer.
    pub peer: PeerId,
    /// The run.
    pub run: RunId,
    /// The round to train in.
    pub round: RoundNumber,
    /// The round's seed.
    pub seed: Seed,
    /// The samples to train on.
    pub share: Share,
    /// State root of the weights to start from.
    pub base_root: StateRoot,
}

/// A contribution that is ready to be committed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trained {
    /// The blob's name.
    pub blob: BlobHash,
    /// The blob's length in bytes.
    pub blob_bytes: u64,
    /// The number of samples that the peer claims to have trained on.
    pub samples: Samples,
}

/// The learning in a simulated run. One value learns for all peers.
///
/// Whatever is random in it must follow from its own seed, so that a run can be repeated.
pub trait Learning {
    /// The state root of the initial weights.
    fn initial(&self) -> StateRoot;

    /// A peer has trained. Returns `None` if its training failed.
    fn train(&mut self, task: &Task) -> Option<Trained>;

    /// What the structural check of a fetched contribution finds.
    fn examine(&mut self, fetch: &Fetch) -> Verdict;

    /// How the contributions of a running round compare with one another and with `earlier` ones,
    /// as the peer with this index finds or says.
    fn compare(
        &mut self,
        index: usize,
        round: RoundNumber,
        found: &[Candidate],
        earlier: &[BlobHash],
    ) -> Vec<Signal> {
        let _ = (index, round, found, earlier);
        Vec::new()
    }

    /// What chosen contributions do to the loss, as the peer with this index measures or says.
    ///
    /// By default every contribution is typical.
    fn judge(&mut self, index: usize, judge: &Judge) -> Vec<Score> {
        let _ = index;
        let measured = judge.contributions.iter().filter(|judged| judged.measure);
        let typical = measured.map(|judged| Score {
            slot: judged.slot,
            own_ppm: TYPICAL_PPM,
            held_ppm: TYPICAL_PPM,
        });
        typical.collect()
    }

    /// The state root of the weights after a decided round, for a peer that held `base` before it.
    fn apply(&mut self, base: StateRoot, apply: &Apply) -> StateRoot;

    /// The first honest peer decided a round. `chain` is what it holds after that round.
    fn decided(&mut self, now: Millis, decided: &Decided, chain: &Chain) {
        let _ = (now, decided, chain);
    }
}

/// No learning: contributions are random names, and the state root is the next link of a hash chain
/// over applied contributions, so that a fork shows at once.
#[derive(Debug)]
pub struct HashChain {
    random: Random,
    blob_bytes: RangeInclusive<u64>,
}

impl HashChain {
    /// Draws the names and the lengths of contributions from this seed.
    pub const fn new(seed: u64, blob_bytes: RangeInclusive<u64>) -> Self {
        Self {
            random: Random::new(seed),
            blob_bytes,
        }
    }
}

const WEIGHTS: &str = "commonweal simulated weights v1";

impl Learning for HashChain {
    fn initial(&self) -> StateRoot {
        blake3::derive_key(WEIGHTS, b"initial").into()
    }

    fn train(&mut self, _: &Task) -> Option<Trained> {
        Some(Trained {
            blob: BlobHash::from(self.random.bytes()),
            blob_bytes: self.random.within(&self.blob_bytes),
            samples: Samples(10),
        })
    }

    fn examine(&mut self, _: &Fetch) -> Verdict {
        Verdict::Valid
    }

    fn apply(&mut self, base: StateRoot, apply: &Apply) -> StateRoot {
        if apply.contributions.is_empty() {
            return base;
        }
        let mut hasher = blake3::Hasher::new_derive_key(WEIGHTS);
        hasher
            .update(base.as_bytes())
            .update(&apply.outer_rate_ppm.to_le_bytes());
        for chosen in &apply.contributions {
            hasher
                .update(chosen.peer.as_bytes())
                .update(chosen.commitment.blob.as_bytes());
        }
        (*hasher.finalize().as_bytes()).into()
    }
}
