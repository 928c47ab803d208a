//! The way to the learner's thread.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use tokio::sync::mpsc;
use weal_proto::RoundNumber;

use super::event::LearnerEvent;
use super::health::{LearnerHealth, LearnerProgress, Shared};
use super::job::{Job, PrepareJudging, TrainJob, Wishes};
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
    wishes: Arc<Wishes>,
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
            wishes: Arc::default(),
            shared: Shared::default(),
        };
        let thread =
            LearnerThread::new(setup, handle.wishes.clone(), handle.shared.clone(), events)?;
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
        self.wishes.begin(job.round);
        self.wishes.training_waits();
        let is_sent = self.send(Job::Train(Box::new(job)));
        if !is_sent {
            self.wishes.training_arrived();
        }
        is_sent
    }

    /// Measures what contributions of a decided round do to the loss. Call it before the next
    /// round's [`train`](Self::train), which it goes ahead of for a moment.
    pub(crate) fn judge(&self, prepare: PrepareJudging) {
        // Others measure the same contributions.
        self.send(Job::Judge(prepare));
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

    /// Stops all work for this and earlier rounds.
    pub(crate) fn stop(&self, round: RoundNumber) {
        self.wishes.stop(round);
    }

    pub(crate) fn progress(&self) -> LearnerProgress {
        self.shared.progress()
    }

    pub(crate) fn health(&self) -> LearnerHealth {
        self.shared.health()
    }
}
