//! What the learner's thread reports.

use std::sync::Arc;

use weal_kernels::OwnWork;
use weal_proto::{BlobHash, RoundNumber, Samples, Score};

use crate::error::Error;

/// Something that happened on the learner's thread.
#[derive(Debug)]
pub(crate) enum LearnerEvent {
    /// A contribution was made and stored durably.
    Trained(Box<Contributed>),
    /// The node will not contribute to the round.
    Failed { round: RoundNumber, why: String },
    /// The node must exit: the disk refused what was learnt, or the device is lost and the settings
    /// ask for a restart.
    Fatal(Error),
    /// The device failed. Another learner will be made.
    DeviceLost {
        device: String,
        /// What the device was doing, and what it said.
        why: String,
        /// What the node does next.
        then: String,
    },
    /// A learner was made to replace one whose device failed.
    DeviceReady { device: String },
    /// One more contribution of a decided round was measured.
    Judged {
        round: RoundNumber,
        /// All scores of the round so far.
        scores: Vec<Score>,
    },
    /// The held-out loss of the weights at a round's start was measured.
    Evaluated {
        round: RoundNumber,
        nats_per_byte: f64,
    },
}

/// A contribution that was made.
#[derive(Debug)]
pub(crate) struct Contributed {
    pub round: RoundNumber,
    pub blob: BlobHash,
    /// Length of the blob.
    pub blob_bytes: u64,
    /// What the training has to say about others' contributions.
    pub own_work: Arc<OwnWork>,
    /// Sequences trained on.
    pub samples: Samples,
    /// Tokens trained on.
    pub tokens: u64,
    /// Inner steps that were not finite and changed nothing.
    pub skipped_steps: u64,
    /// How often training went back to the agreed weights because its own were no longer finite.
    pub restorations: u64,
    /// Mean training loss: nats per byte if a token is a byte, otherwise nats per token.
    pub mean_loss: f64,
    /// Seconds of inner steps.
    pub train_seconds: f64,
}
