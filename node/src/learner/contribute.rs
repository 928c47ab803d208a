//! A round's training, up to a contribution that is stored durably.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use weal_kernels::{Contribution, OwnWork, decode};
use weal_proto::{BlobHash, BlobHeader, Samples};
use weal_trainer::{Assignment, Learner, Sent, Trained};

use super::event::Contributed;
use super::health::LearnerProgress;
use super::job::TrainJob;
use super::setup::LearnerSetup;
use super::thread::{LearnerThread, no_learner};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::store::blobs::Keep;

/// The share of a round's training spent waiting for data above which the log says so.
const SLOW_DATA: f64 = 0.1;

impl LearnerThread {
    /// Trains a round and stores the contribution.
    ///
    /// # Errors
    /// When the device fails, training diverges, the disk cannot be written or the round is over.
    pub(super) fn contribute(&mut self, job: &TrainJob) -> Result<Contributed> {
        if job.unapplied != self.taken_back
            && let Some(blob) = job.unapplied
        {
            self.take_back(&blob)?;
            self.taken_back = job.unapplied;
        }
        let trained = self.train_steps(job)?;
        if self.is_stopped(job) {
            return Err(Error::internal("training was stopped: the round is over"));
        }
        let begun = Instant::now();
        let (hash, blob_bytes, own_work) = self.store_contribution(job)?;
        self.pace.has_finished(begun.elapsed());
        self.taken_back = None;
        Ok(Contributed {
            round: job.round,
            blob: hash,
            blob_bytes,
            own_work,
            samples: Samples(trained.samples),
            tokens: trained.tokens,
            skipped_steps: trained.skipped_steps,
            restorations: trained.restorations,
            mean_loss: f64::from(trained.mean_loss),
            train_seconds: trained.seconds,
        })
    }

    /// Puts blob, error feedback and moments on disk, before anything is committed to.
    fn store_contribution(&mut self, job: &TrainJob) -> Result<(BlobHash, u64, Arc<OwnWork>)> {
        let plan = self.setup.plan.clone();
        let learner = self.learner.as_mut().ok_or_else(no_learner)?;
        let theta = &job.weights.values;
        let body = learner.compress(theta, &plan.compression)?;
        let sent = Sent {
            body: &body,
            compression: &plan.compression,
        };
        let own_work = learner.own_work(theta, &sent, &rand::random())?;
        theta.release();
        #[cfg(feature = "dishonest")]
        let body = crate::dishonest::body(&plan, &self.setup.blobs, job.round, body)?;
        let header = BlobHeader {
            run: self.setup.run,
            round: job.round,
            peer: self.setup.peer,
            base_root: job.weights.root,
            layout: plan.layout.hash().into(),
            codec: self.setup.codec,
        };
        let blob = header.lead(&body);
        let LearnerSetup {
            blobs, disk, files, ..
        } = &self.setup;
        let hash = disk.retry(|| blobs.put(&blob, Keep::Round(job.round), true))?;
        // If the device fails here, the learner is gone, and the next one continues from the state
        // of the round before.
        disk.retry(|| files.save(job.round, hash, learner))?;
        Ok((hash, blob.len() as u64, Arc::new(own_work)))
    }

    fn train_steps(&mut self, job: &TrainJob) -> Result<Trained> {
        let assignment = Assignment {
            run: self.setup.run.into(),
            seed: job.seed.into(),
            peer: self.setup.peer.into(),
            spans: job.share.spans.clone(),
            ahead: job.share.ahead,
        };
        let steps_a_round = u64::from(self.setup.plan.inner.steps);
        let steps_before = job.round.0.saturating_mul(steps_a_round);
        let (wishes, shared, pace) = (self.wishes.clone(), self.shared.clone(), self.pace);
        let mut last = Instant::now();
        let learner: &mut Learner = self.learner.as_mut().ok_or_else(no_learner)?;
        let trained = learner.train(
            &job.weights.values,
            &assignment,
            steps_before,
            &mut |progress| {
                // They are on the device, and are not looked at until the round's end.
                job.weights.values.release();
                shared.set_progress(LearnerProgress {
                    steps_done: progress.steps,
                    ..shared.progress()
                });
                let now = Instant::now();
                let took = now - std::mem::replace(&mut last, now);
                if wishes.is_stopped(job.round) || pace.is_time_up(now, took, job.deadline) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        self.count_health(&trained);
        let trained = trained?;
        let (seconds, waited) = (trained.seconds, trained.data_seconds);
        if waited > SLOW_DATA * seconds {
            tracing::warn!(
                "training waited {waited:.1} s of {seconds:.1} s for its data; is the disk slow?"
            );
        }
        Ok(trained)
    }

    fn count_health(&self, trained: &weal_trainer::Result<Trained>) {
        self.shared.change_health(|health| match trained {
            Ok(trained) => {
                health.skipped_steps += trained.skipped_steps;
                health.restorations += trained.restorations;
            }
            Err(weal_trainer::Error::Diverged { skipped, .. }) => {
                health.skipped_steps += skipped;
                health.diverged_rounds += 1;
            }
            Err(_) => {}
        });
    }

    /// Puts a contribution that was never applied back into the error feedback, so that nothing
    /// learnt is lost. One that can no longer be read is lost: later rounds could not read it
    /// either.
    fn take_back(&mut self, hash: &BlobHash) -> Result<()> {
        let Some(blob) = self.setup.blobs.get(hash)? else {
            return Ok(());
        };
        let contribution = match decode_own(&self.setup.plan, &blob) {
            Ok(contribution) => contribution,
            Err(error) => {
                tracing::warn!(
                    "this node's unapplied contribution is lost: it cannot be decoded: {error:#}"
                );
                return Ok(());
            }
        };
        let learner = self.learner.as_mut().ok_or_else(no_learner)?;
        match learner.take_back(&contribution) {
            Err(error @ weal_trainer::Error::ErrorFeedback { .. }) => {
                tracing::warn!("this node's unapplied contribution is lost: {error}");
                Ok(())
            }
            restored => Ok(restored?),
        }
    }
}

/// The contribution in a blob of this node.
pub(super) fn decode_own(plan: &Plan, blob: &[u8]) -> Result<Contribution> {
    let (_, body) =
        BlobHeader::split(blob).map_err(|error| Error::of(ErrorKind::Internal, error))?;
    Ok(decode(
        &plan.layout,
        &plan.compression,
        body,
        plan.max_blob_bytes,
    )?)
}
