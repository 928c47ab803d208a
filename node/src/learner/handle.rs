//! The way to the learner's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use tokio::sync::mpsc;
use weal_proto::RoundNumber;

use super::event::LearnerEvent;
use super::health::{LearnerHealth, LearnerProgress, Shared};
use super::job::{Job, TrainJob};
use super::setup::LearnerSetup;
use super::thread::LearnerThread;
use crate::error::{Error, Result};
use crate::store::weights::Weights;

/// Jobs that may wait. The core gives one at a time; an evaluation comes now and then.
const QUEUE: usize = 8;

/// Gives the learner's thread its jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LearnerHandle {
    jobs: SyncSender<Job>,
    /// Training of rounds below this number stops.
    stop_before: Arc<AtomicU64>,
    shared: Shared,
}

impl LearnerHandle {
    /// Starts the thread. It ends with its last handle.
    ///
    /// # Errors
    /// When the device cannot train the model.
    pub(crate) fn start(setup: LearnerSetup, events: mpsc::Sender<LearnerEvent>) -> Result<Self> {
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
                Error::internal("the learner's thread cannot start").caused_by(error)
            })?;
        Ok(handle)
    }

    /// Trains a round. If it returns false, no event will tell how the round went.
    #[must_use]
    pub(crate) fn train(&self, job: TrainJob) -> bool {
        self.stop_before.store(job.round.0, Ordering::Release);
        self.send(Job::Train(Box::new(job)))
    }

    /// Measures the held-out loss of weights once nothing is being trained.
    pub(crate) fn evaluate(&self, weights: Weights) {
        // If this one is dropped, the next measurement makes up for it.
        self.send(Job::Evaluate(weights));
    }

    fn send(&self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => return true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!("the learner is far behind; dropping a job");
            }
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("the learner has ended; dropping a job");
            }
        }
        false
    }

    /// Stops the training of this and earlier rounds.
    pub(crate) fn stop(&self, round: RoundNumber) {
        self.stop_before
            .fetch_max(round.0.saturating_add(1), Ordering::AcqRel);
    }

    pub(crate) fn progress(&self) -> LearnerProgress {
        self.shared.progress()
    }

    pub(crate) fn health(&self) -> LearnerHealth {
        self.shared.health()
    }
}
