//! The thread that trains. It owns the model, and with it error feedback and moments; everything
//! else talks to it through a bounded queue, so that neither the network nor the rules ever wait
//! for a GPU.
//!
//! | file | holds |
//! |---|---|
//! | `thread.rs` | the thread: a round's training to its contribution, and what is done when the device fails |
//! | `device.rs` | which device is taken after a failure, and when |
//! | `health.rs` | what people are told of the learner |

mod device;
mod health;
#[cfg(test)]
mod tests;
mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use tokio::sync::mpsc;
use weal_proto::{BlobHash, PeerId, RoundNumber, RunId, Samples, Seed};
use weal_trainer::{Corpus, OpenDevice};

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::settings::ComputeSettings;
use crate::store::blobs::Blobs;
use crate::store::learner::{LearnerFiles, LearnerState};
use crate::store::weights::Weights;

use health::Shared;
pub use health::{LearnerHealth, LearnerProgress, LostDevice};
use thread::LearnerThread;

/// Jobs that may wait; the rules give one at a time, and an evaluation now and then.
const QUEUE: usize = 8;

/// A round's training.
#[derive(Clone)]
pub struct TrainJob {
    /// The round.
    pub round: RoundNumber,
    /// What the assignment of samples is drawn from.
    pub seed: Seed,
    /// The weights to start from.
    pub weights: Weights,
    /// When to stop, done or not.
    pub deadline: Instant,
    /// Own contribution of an earlier round that was not applied: what it held goes back into the
    /// error feedback.
    pub unapplied: Option<BlobHash>,
}

enum Job {
    Train(Box<TrainJob>),
    Evaluate(Weights),
}

/// What the learner tells.
#[derive(Debug)]
pub enum LearnerEvent {
    /// A contribution is made and durably stored.
    Trained(Box<Contributed>),
    /// There will be no contribution in this round.
    Failed {
        /// The round.
        round: RoundNumber,
        /// Why.
        why: String,
    },
    /// What was learnt cannot be stored, or the device is lost and the settings ask for a restart:
    /// the node must not go on.
    Fatal(Error),
    /// The device failed; another learner will be made.
    DeviceLost {
        /// The device.
        device: String,
        /// What it was doing, and what it said.
        why: String,
        /// What follows.
        then: String,
    },
    /// A learner was made in place of one whose device failed.
    DeviceReady {
        /// The device.
        device: String,
    },
    /// The held-out loss of the weights at a round's start.
    Evaluated {
        /// The round.
        round: RoundNumber,
        /// Mean loss, in nats per byte.
        nats_per_byte: f64,
    },
}

/// A contribution made.
#[derive(Debug)]
pub struct Contributed {
    /// The round.
    pub round: RoundNumber,
    /// Its blob.
    pub blob: BlobHash,
    /// Length of the blob in bytes.
    pub blob_bytes: u64,
    /// Sequences trained on.
    pub samples: Samples,
    /// Tokens trained on.
    pub tokens: u64,
    /// Inner steps that were not finite and changed nothing.
    pub skipped_steps: u64,
    /// How often training went back to the agreed weights, because it led to values that are not
    /// finite.
    pub restorations: u64,
    /// Mean training loss, in nats per byte where a token is a byte, else per token.
    pub mean_loss: f64,
    /// Seconds of inner steps.
    pub train_seconds: f64,
    /// Seconds of compressing and storing.
    pub compress_seconds: f64,
}

/// The way to the learner's thread.
#[derive(Clone)]
pub struct LearnerHandle {
    jobs: SyncSender<Job>,
    /// Training of rounds below this number is to stop.
    stop_before: Arc<AtomicU64>,
    shared: Shared,
}

/// What the thread needs.
pub struct LearnerSetup {
    /// The run.
    pub run: RunId,
    /// This peer.
    pub peer: PeerId,
    /// What the manifest means.
    pub plan: Arc<Plan>,
    /// The text.
    pub corpus: Arc<Corpus>,
    /// The device.
    pub device: OpenDevice,
    /// Where contributions go.
    pub blobs: Blobs,
    /// Where error feedback and moments go.
    pub files: LearnerFiles,
    /// What an earlier process left there.
    pub learnt: Option<LearnerState>,
    /// Held-out sequences of an evaluation.
    pub evaluation_sequences: usize,
    /// Version of the contribution codec.
    pub codec: u32,
    /// How the device is used.
    pub compute: ComputeSettings,
}

impl LearnerHandle {
    /// Starts the thread. It ends when all handles are gone.
    ///
    /// # Errors
    /// When the device refuses the model.
    pub fn start(setup: LearnerSetup, events: mpsc::Sender<LearnerEvent>) -> Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        let handle = Self {
            jobs,
            stop_before: Arc::default(),
            shared: Shared::default(),
        };
        let thread = LearnerThread::new(
            setup,
            handle.stop_before.clone(),
            handle.shared.clone(),
            events,
        )?;
        std::thread::Builder::new()
            .name("learner".into())
            .spawn(move || thread.run(&queue))
            .map_err(|error| {
                Error::internal(format!("the learner's thread cannot start: {error}"))
            })?;
        Ok(handle)
    }

    /// Trains a round. Says whether it will: else nothing is heard of the round.
    #[must_use]
    pub fn train(&self, job: TrainJob) -> bool {
        self.stop_before.store(job.round.0, Ordering::Release);
        self.send(Job::Train(Box::new(job)))
    }

    /// Measures the held-out loss of weights, when nothing is being trained.
    pub fn evaluate(&self, weights: Weights) {
        // The next measurement makes up for one that is dropped.
        self.send(Job::Evaluate(weights));
    }

    fn send(&self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => return true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!("the learner is far behind; a job was dropped")
            }
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("the learner has ended; a job was dropped")
            }
        }
        false
    }

    /// Stops the training of this and earlier rounds.
    pub fn stop(&self, round: RoundNumber) {
        self.stop_before
            .fetch_max(round.0.saturating_add(1), Ordering::AcqRel);
    }

    /// How far the running training is.
    pub fn progress(&self) -> LearnerProgress {
        self.shared.progress()
    }

    /// How the learner is.
    pub fn health(&self) -> LearnerHealth {
        self.shared.health()
    }
}
