//! What a node does in the background: training, fetching contributions, applying rounds.

use weal_proto::{BlobHash, EnvelopeHash, RoundNumber, Samples, StateRoot, Verdict};

use super::audit::Violation;
use super::event::Local;
use super::node::{Node, applied};
use super::world::World;
use crate::interface::input::Input;
use crate::interface::output::{Apply, Fetch};
use crate::interface::time::Millis;

/// How often a peer tries to fetch a contribution before it gives up.
const TRIES: u32 = 30;
/// The time between two tries, in milliseconds.
const RETRY_MS: u64 = 300;

impl World {
    /// Starts to fetch a contribution. Sometimes the peer never gets it, and never answers.
    pub(super) fn fetch(&mut self, peer: usize, fetch: Fetch) {
        if self.random.chance(self.scenario.missing_blob_ppm) {
            return;
        }
        let delay = self.random.within(&(20..=400));
        let what = Local::TryFetch {
            commitment: fetch.hash,
            blob: fetch.commitment.blob,
            tries_left: TRIES,
        };
        self.schedule_local(peer, delay, what);
    }

    pub(super) fn apply(&mut self, peer: usize, apply: Apply) {
        let delay = self.random.within(&(20..=300));
        self.schedule_local(peer, delay, Local::TryApply(apply));
    }

    pub(super) fn train(&mut self, peer: usize, round: RoundNumber, deadline: Millis) {
        self.nodes[peer].trainings += 1;
        let span = self.scenario.train_ms.clone();
        let done = self.now.after(self.random.within(&span)).min(deadline);
        let training = self.nodes[peer].trainings;
        self.schedule_local_at(peer, done, Local::TrainingEnds { training, round });
    }

    pub(super) fn training_ends(
        &mut self,
        peer: usize,
        training: u64,
        round: RoundNumber,
    ) -> Result<(), Violation> {
        if self.nodes[peer].trainings != training {
            return Ok(());
        }
        let blob = BlobHash::from(self.random.bytes());
        self.nodes[peer].disk.blobs.insert(blob);
        let blob_bytes = self.random.within(&(1_000..=100_000));
        self.step(
            peer,
            Input::Trained {
                round,
                blob,
                blob_bytes,
                samples: Samples(10),
            },
        )
    }

    /// Whether another peer that is up serves the blob: the contributor after it has revealed the
    /// blob, or any peer that has fetched it.
    fn is_served(&self, peer: usize, blob: &BlobHash) -> bool {
        let serves = |node: &Node| node.core.is_some() && node.revealed.contains(blob);
        self.nodes
            .iter()
            .enumerate()
            .any(|(other, node)| other != peer && serves(node))
    }

    /// Fetches the blob if the peer does not hold it. Returns whether it holds the blob now.
    fn holds_or_fetches(&mut self, peer: usize, blob: &BlobHash) -> bool {
        let held = self.nodes[peer].disk.blobs.contains(blob);
        if held || self.is_served(peer, blob) {
            self.nodes[peer].disk.blobs.insert(*blob);
            self.nodes[peer].revealed.insert(*blob);
            return true;
        }
        false
    }

    pub(super) fn try_fetch(
        &mut self,
        peer: usize,
        commitment: EnvelopeHash,
        blob: BlobHash,
        tries_left: u32,
    ) -> Result<(), Violation> {
        let verdict = if self.holds_or_fetches(peer, &blob) {
            Verdict::Valid
        } else if let Some(tries_left) = tries_left.checked_sub(1) {
            let retry = Local::TryFetch {
                commitment,
                blob,
                tries_left,
            };
            self.schedule_local(peer, RETRY_MS, retry);
            return Ok(());
        } else {
            Verdict::Unavailable
        };
        let validated = Input::Validated {
            commitment,
            verdict,
        };
        self.step(peer, validated)
    }

    pub(super) fn try_apply(&mut self, peer: usize, apply: Apply) -> Result<(), Violation> {
        let mut all = true;
        for chosen in &apply.contributions {
            all &= self.holds_or_fetches(peer, &chosen.commitment.blob);
        }
        let (round, root) = self.nodes[peer].weights;
        if round != apply.round {
            return Ok(());
        }
        if !all {
            self.schedule_local(peer, RETRY_MS, Local::TryApply(apply));
            return Ok(());
        }
        let mut after = applied(root, &apply);
        if self.random.chance(self.scenario.damage_ppm) {
            after = self.random.bytes().into();
        } else if self.nodes[peer].liar.is_none() && root == apply.base_root {
            self.audit.holds(round.next(), after)?;
        }
        self.weights_ready(peer, round.next(), after, 0);
        Ok(())
    }

    /// Half of all fetches fail, as if no peer held the weights.
    pub(super) fn fetch_weights(&mut self, peer: usize, round: RoundNumber, root: StateRoot) {
        let delay = self.random.within(&(300..=1_500));
        if self.random.chance(500_000) {
            let failed = Local::Answer(Input::ApplyFailed { round });
            self.schedule_local(peer, delay, failed);
            return;
        }
        self.outcome.weights_fetched += 1;
        self.weights_ready(peer, round, root, delay);
    }

    fn weights_ready(&mut self, peer: usize, round: RoundNumber, root: StateRoot, delay: u64) {
        let keep = self.random.chance(500_000);
        let node = &mut self.nodes[peer];
        node.weights = (round, root);
        if keep {
            node.disk.checkpoint = Some((round, root));
        }
        let ready = Local::Answer(Input::WeightsReady { round, root });
        self.schedule_local(peer, delay, ready);
    }
}
