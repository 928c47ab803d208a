//! What the learner's thread is asked to do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use weal_coordinator_free::Share;
use weal_kernels::Contribution;
use weal_proto::{BlobHash, PeerId, RoundNumber, Samples, Seed, SlotId};

use crate::error::Result;
use crate::store::weights::Weights;

/// A round's training.
#[derive(Clone)]
pub(crate) struct TrainJob {
    pub round: RoundNumber,
    /// The round's seed.
    pub seed: Seed,
    /// The samples that this node trains on.
    pub share: Share,
    /// The weights to start from.
    pub weights: Weights,
    /// The contribution is to be stored by this instant, even if steps are left.
    pub deadline: Instant,
    /// This node's contribution to an earlier round that was not applied: its content goes back
    /// into the error feedback.
    pub unapplied: Option<BlobHash>,
}

/// Gets the contributions of a decided round ready to be measured.
pub(crate) type PrepareJudging = Box<dyn FnOnce() -> Result<JudgeJob> + Send>;

/// A job of the thread.
pub(super) enum Job {
    Train(Box<TrainJob>),
    Judge(PrepareJudging),
    Evaluate(Weights),
}

/// What the handles tell the thread while it works.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Work for rounds below this number stops.
    stop_before: AtomicU64,
    /// Trainings that wait for the thread.
    trainings: AtomicU64,
}

impl Wishes {
    /// A round is to be trained, and all work for earlier ones stops.
    pub(super) fn begin(&self, round: RoundNumber) {
        self.stop_before.store(round.0, Ordering::Release);
    }

    /// Work for this and earlier rounds stops.
    pub(super) fn stop(&self, round: RoundNumber) {
        let next = round.0.saturating_add(1);
        self.stop_before.fetch_max(next, Ordering::AcqRel);
    }

    /// Whether a round is over for this node.
    pub(super) fn is_stopped(&self, round: RoundNumber) -> bool {
        self.stop_before.load(Ordering::Acquire) > round.0
    }

    /// A training is on its way to the thread.
    pub(super) fn training_waits(&self) {
        self.trainings.fetch_add(1, Ordering::AcqRel);
    }

    /// A training has arrived there, or never will.
    pub(super) fn training_arrived(&self) {
        self.trainings.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a training waits.
    pub(super) fn wants_training(&self) -> bool {
        self.trainings.load(Ordering::Acquire) > 0
    }
}

/// Contributions of a decided round to measure.
pub(crate) struct JudgeJob {
    pub round: RoundNumber,
    /// The round's seed.
    pub seed: Seed,
    /// The weights at the round's start.
    pub weights: Weights,
    /// In the order in which they are measured.
    pub contributions: VecDeque<JudgedContribution>,
}

/// A contribution to measure.
pub(crate) struct JudgedContribution {
    /// The place that its peer held in the round.
    pub slot: SlotId,
    pub peer: PeerId,
    pub contribution: Arc<Contribution>,
    /// The outer learning rate times the coefficient.
    pub scale: f32,
    /// The clip factor of each tensor.
    pub clip: Vec<f32>,
    /// The samples dealt to the peer, and how many of them it trained on.
    pub share: Share,
    pub samples: Samples,
}
