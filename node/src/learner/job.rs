//! What the learner's thread is asked to do.

use std::time::Instant;

use weal_proto::{BlobHash, RoundNumber, Seed};

use crate::store::weights::Weights;

/// A round's training.
#[derive(Clone)]
pub(crate) struct TrainJob {
    pub round: RoundNumber,
    /// Decides which samples this node trains on.
    pub seed: Seed,
    /// The weights to start from.
    pub weights: Weights,
    /// Training stops at this instant, even if steps are left.
    pub deadline: Instant,
    /// This node's contribution to an earlier round that was not applied: its content goes back
    /// into the error feedback.
    pub unapplied: Option<BlobHash>,
}

/// A job of the thread.
pub(super) enum Job {
    Train(Box<TrainJob>),
    Evaluate(Weights),
}
