//! What a node does in the background: training, fetching contributions, applying rounds.

use weal_proto::{BlobHash, RoundNumber, StateRoot, Verdict};

use super::audit::Violation;
use super::event::Local;
use super::learning::{Task, Trained};
use super::transfers::Whereabouts;
use super::world::World;
use crate::interface::input::Input;
use crate::interface::output::{Apply, Fetch};
use crate::interface::time::Millis;

/// How often a peer tries to fetch a contribution before it gives up.
const TRIES: u32 = 30;
/// The time between two tries, in milliseconds.
const RETRY_MS: u64 = 300;
/// The time after which a peer gives up looking for weights that nobody has, in milliseconds.
const WEIGHTS_RETRY_MS: u64 = 2_000;

impl World {
    /// Starts to fetch a contribution. Sometimes the peer never gets it, and never answers.
    pub(super) fn fetch(&mut self, peer: usize, fetch: Fetch) {
        if self.random.chance(self.scenario.missing_blob_ppm) {
            return;
        }
        let delay = self.random.within(&(20..=400));
        let tries_left = TRIES;
        self.schedule_local(peer, delay, Local::TryFetch { fetch, tries_left });
    }

    pub(super) fn apply(&mut self, peer: usize, apply: Apply) {
        let slower = self.scenario.slowness(peer).apply_ms;
        let delay = self.random.within(&(20..=300)).saturating_add(slower);
        let tries_left = TRIES;
        self.schedule_local(peer, delay, Local::TryApply { apply, tries_left });
    }

    /// Trains until the deadline at most.
    pub(super) fn train(&mut self, task: Task, deadline: Millis) {
        let peer = task.index;
        self.nodes[peer].trainings += 1;
        let span = self.scenario.train_ms.clone();
        let deadline = self.nodes[peer].clock.when_it_reads(deadline);
        let slower = self.scenario.slowness(peer).train_ms;
        let span = self.random.within(&span).saturating_add(slower);
        let done = self.now.after(span).min(deadline);
        let training = self.nodes[peer].trainings;
        self.schedule_local_at(peer, done, Local::TrainingEnds { training, task });
    }

    pub(super) fn training_ends(
        &mut self,
        peer: usize,
        training: u64,
        task: &Task,
    ) -> Result<(), Violation> {
        if self.nodes[peer].trainings != training {
            return Ok(());
        }
        let round = task.round;
        let input = match self.learning.train(task) {
            None => Input::TrainingFailed { round },
            Some(Trained {
                blob,
                blob_bytes,
                samples,
            }) => {
                self.nodes[peer].disk.store_own_blob(blob, round);
                Input::Trained {
                    round,
                    blob,
                    blob_bytes,
                    samples,
                }
            }
        };
        self.step(peer, input)
    }

    /// Serves a blob from now on, to those to whom a dishonest peer serves it.
    pub(super) fn reveal(&mut self, peer: usize, blob: BlobHash) {
        let node = &mut self.nodes[peer];
        node.disk.hidden.remove(&blob);
        if let Some(liar) = &mut node.liar {
            node.audiences.insert(blob, liar.serve(&blob));
        }
    }

    /// A dishonest peer holds a blob that its core knows nothing of, and serves it from now on.
    pub(super) fn hold_and_reveal(&mut self, peer: usize, blob: BlobHash) {
        let round = self.nodes[peer].phase.0;
        self.nodes[peer].disk.store_own_blob(blob, round);
        self.reveal(peer, blob);
    }

    pub(super) fn try_fetch(
        &mut self,
        peer: usize,
        fetch: Fetch,
        tries_left: u32,
    ) -> Result<(), Violation> {
        let whereabouts = self.obtain(peer, &fetch.commitment);
        let verdict = match (whereabouts, tries_left.checked_sub(1)) {
            (Whereabouts::Here, _) => self.learning.examine(&fetch),
            (_, None) => Verdict::Unavailable,
            (_, Some(tries_left)) => {
                let at = self.retry_at(whereabouts);
                self.schedule_local_at(peer, at, Local::TryFetch { fetch, tries_left });
                return Ok(());
            }
        };
        let validated = Input::Validated {
            commitment: fetch.hash,
            verdict,
        };
        self.step(peer, validated)
    }

    /// When a peer looks again for a blob that is not here.
    const fn retry_at(&self, whereabouts: Whereabouts) -> Millis {
        match whereabouts {
            Whereabouts::Arrives(at) => at,
            Whereabouts::Here | Whereabouts::Nowhere => self.now.after(RETRY_MS),
        }
    }

    pub(super) fn try_apply(
        &mut self,
        peer: usize,
        apply: Apply,
        tries_left: u32,
    ) -> Result<(), Violation> {
        let mut retry_at = None;
        for chosen in &apply.contributions {
            let whereabouts = self.obtain(peer, &chosen.commitment);
            if whereabouts != Whereabouts::Here {
                retry_at = retry_at.max(Some(self.retry_at(whereabouts)));
            }
        }
        let (round, root) = self.nodes[peer].weights;
        if round != apply.round {
            return Ok(());
        }
        if let Some(at) = retry_at {
            let Some(tries_left) = tries_left.checked_sub(1) else {
                // Nobody keeps the contributions any longer.
                return self.step(peer, Input::ApplyFailed { round });
            };
            self.schedule_local_at(peer, at, Local::TryApply { apply, tries_left });
            return Ok(());
        }
        let mut after = self.learning.apply(root, &apply);
        if self.random.chance(self.scenario.damage_ppm) {
            after = self.random.bytes().into();
        } else if self.nodes[peer].is_honest() && root == apply.base_root {
            self.audit.holds(round.next(), after)?;
        }
        self.weights_ready(peer, round.next(), after, 0);
        Ok(())
    }

    pub(super) fn fetch_weights(&mut self, peer: usize, round: RoundNumber, root: StateRoot) {
        let Some(at) = self.obtain_weights(peer, round, root) else {
            let failed = Local::Answer(Input::ApplyFailed { round });
            self.schedule_local(peer, WEIGHTS_RETRY_MS, failed);
            return;
        };
        self.outcome.weights_fetched += 1;
        self.weights_ready(peer, round, root, at.since(self.now));
    }

    fn weights_ready(&mut self, peer: usize, round: RoundNumber, root: StateRoot, delay: u64) {
        let rules = &self.scenario.disks;
        let stored = self.random.chance(rules.stores_weights_ppm);
        let node = &mut self.nodes[peer];
        node.weights = (round, root);
        if stored {
            node.disk.store_weights(round, root, rules);
        }
        let ready = Local::Answer(Input::WeightsReady { round, root });
        self.schedule_local(peer, delay, ready);
    }
}
