//! The learner's thread: rounds trained to contributions, one after the other.
//!
//! A device that fails takes with it what was on it, and no more: error feedback and moments are
//! those that were saved with the last contribution, the weights are the agreed ones. The round
//! that was interrupted is begun again as soon as there is a device, if there is time left, and sat
//! out otherwise. A panic is taken for such a failure: whatever state it left goes with the
//! learner, and the thread lives on.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use tokio::sync::mpsc;
use weal_kernels::{Contribution, add_back, decode};
use weal_proto::{BlobHash, BlobHeader, Samples};
use weal_trainer::{Assignment, Learner, OpenDevice, Trained};

use super::device::TrainingDevice;
use super::health::{LearnerProgress, LostDevice, Shared};
use super::{Contributed, Job, LearnerEvent, LearnerSetup, TrainJob};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::settings::OnDeviceLoss;
use crate::store::blobs::Keep;
use crate::store::learner::LearnerState;
use crate::store::weights::Weights;

/// The share of a round's training that may go into waiting for data before somebody is told.
const SLOW_DATA: f64 = 0.1;

pub(super) struct LearnerThread {
    pub(super) setup: LearnerSetup,
    /// None while the device is lost.
    pub(super) learner: Option<Learner>,
    device: TrainingDevice,
    /// The round that is to be trained once there is a device.
    interrupted: Option<Box<TrainJob>>,
    /// The contribution that was put back into the error feedback since that was last saved: not to
    /// be put back twice.
    taken_back: Option<BlobHash>,
    pub(super) stop_before: Arc<AtomicU64>,
    shared: Shared,
    events: mpsc::Sender<LearnerEvent>,
}

/// Why the thread wakes up.
enum Wake {
    Job(Job),
    Timer,
}

impl LearnerThread {
    pub fn new(
        mut setup: LearnerSetup,
        stop_before: Arc<AtomicU64>,
        shared: Shared,
        events: mpsc::Sender<LearnerEvent>,
    ) -> Result<Self> {
        let learnt = setup.learnt.take();
        let learner = Some(make_learner(&setup, &setup.device, learnt)?);
        let device = TrainingDevice::new(setup.device.clone(), setup.compute.on_device_loss);
        shared.change_health(|health| health.device = device.name().to_owned());
        Ok(Self {
            setup,
            learner,
            device,
            interrupted: None,
            taken_back: None,
            stop_before,
            shared,
            events,
        })
    }

    /// Works until all handles are gone.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        while let Some(wake) = self.wait(jobs) {
            let event = match wake {
                Wake::Job(Job::Train(job)) => self.train(job),
                Wake::Job(Job::Evaluate(weights)) => self.evaluate(&weights),
                Wake::Timer => self.tend(),
            };
            if !event.is_none_or(|event| self.tell(event)) {
                return;
            }
        }
    }

    /// The next job, or `Timer` when the device is to be opened again, or the interrupted round is
    /// over.
    fn wait(&self, jobs: &Receiver<Job>) -> Option<Wake> {
        let deadline = self.interrupted.as_ref().map(|job| job.deadline);
        let Some(at) = self.device.retry_at().into_iter().chain(deadline).min() else {
            return jobs.recv().ok().map(Wake::Job);
        };
        match jobs.recv_timeout(at.saturating_duration_since(Instant::now())) {
            Ok(job) => Some(Wake::Job(job)),
            Err(RecvTimeoutError::Timeout) => Some(Wake::Timer),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Whether there is still somebody to tell.
    fn tell(&self, event: LearnerEvent) -> bool {
        self.events.blocking_send(event).is_ok()
    }

    /// Trains a round, now or when there is a device.
    pub(super) fn train(&mut self, job: Box<TrainJob>) -> Option<LearnerEvent> {
        if self.learner.is_none() {
            self.interrupted = Some(job);
            return None;
        }
        self.shared.set_progress(LearnerProgress {
            steps_done: 0,
            busy: true,
            due: Some(job.deadline),
        });
        let made = self.attempt(|thread| thread.contribute(&job));
        self.rest();
        Some(match made {
            Ok(contributed) => {
                self.device.has_trained();
                LearnerEvent::Trained(Box::new(contributed))
            }
            Err(Error::Device(why)) => {
                self.interrupted = Some(job);
                self.lose_device(why)
            }
            Err(error @ Error::Storage { .. }) => LearnerEvent::Fatal(error),
            Err(error) => LearnerEvent::Failed {
                round: job.round,
                why: error.to_string(),
            },
        })
    }

    fn rest(&self) {
        self.shared.set_progress(LearnerProgress {
            busy: false,
            due: None,
            ..self.shared.progress()
        });
    }

    /// Does some work; a panic becomes a failure of the device.
    pub(super) fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("it gave no reason");
            Err(Error::Device(format!(
                "the learner panicked on {}: {text}",
                self.device.name()
            )))
        })
    }

    /// Gives up the learner, whose device failed.
    pub(super) fn lose_device(&mut self, why: String) -> LearnerEvent {
        let learner = self.learner.take();
        // Drivers may panic once more when the memory of a lost device is given back.
        _ = catch_unwind(AssertUnwindSafe(|| drop(learner)));
        self.shared.change_health(|health| health.devices_lost += 1);
        let retry_at = self.is_away(why.clone());
        let pause = retry_at.saturating_duration_since(Instant::now()).as_secs();
        let then = match self.device.on_loss() {
            OnDeviceLoss::Restart => return LearnerEvent::Fatal(Error::DeviceLost(why)),
            OnDeviceLoss::Fallback if pause == 0 => "training goes on on the processor".to_owned(),
            OnDeviceLoss::Fallback => format!("training goes on on the processor in {pause} s"),
            OnDeviceLoss::Wait if pause == 0 => "it is opened again".to_owned(),
            OnDeviceLoss::Wait => format!("it is opened again in {pause} s"),
        };
        LearnerEvent::DeviceLost {
            device: self.device.name().to_owned(),
            why,
            then,
        }
    }

    /// There is no device until then.
    fn is_away(&mut self, why: String) -> Instant {
        let retry_at = self.device.has_failed(Instant::now());
        self.shared
            .change_health(|health| health.lost = Some(LostDevice { why, retry_at }));
        retry_at
    }

    /// Opens the device again where it is time, and goes on with the interrupted round, or gives
    /// that up.
    pub(super) fn tend(&mut self) -> Option<LearnerEvent> {
        let now = Instant::now();
        if self.device.retry_at().is_some_and(|at| at <= now) {
            match self.attempt(Self::replace_learner) {
                Ok(device) => {
                    self.tell(LearnerEvent::DeviceReady { device });
                }
                Err(error) => {
                    tracing::warn!(%error, device = self.device.name(), "the device is still away");
                    self.is_away(error.to_string());
                }
            }
        }
        let job = self.interrupted.take()?;
        let stopped = self.stop_before.load(Ordering::Acquire) > job.round.0;
        if !stopped && Instant::now() < job.deadline {
            return self.train(job);
        }
        let why = "the device was away for too long; the round is sat out".to_owned();
        Some(LearnerEvent::Failed {
            round: job.round,
            why,
        })
    }

    /// As if the pause were over.
    #[cfg(test)]
    pub(super) fn skip_pause(&mut self) {
        self.device.skip_pause();
    }

    /// Makes a learner of what was saved last. Returns the device's name.
    fn replace_learner(&mut self) -> Result<String> {
        let device = self.device.open().map_err(failed)?;
        let learnt = self.setup.files.newest(self.setup.plan.layout.parameters());
        self.learner = Some(make_learner(&self.setup, &device, learnt)?);
        // What was taken back since then is not in what was saved.
        self.taken_back = None;
        let name = device.name().to_owned();
        self.device.is_open(device);
        self.shared.change_health(|health| {
            health.device.clone_from(&name);
            health.lost = None;
        });
        Ok(name)
    }

    pub(super) fn contribute(&mut self, job: &TrainJob) -> Result<Contributed> {
        if job.unapplied != self.taken_back
            && let Some(blob) = job.unapplied
        {
            self.take_back(&blob)?;
            self.taken_back = job.unapplied;
        }
        let trained = self.train_steps(job)?;
        if self.stop_before.load(Ordering::Acquire) > job.round.0 {
            return Err(Error::Internal(
                "stopped: the round went on without it".into(),
            ));
        }
        let started = Instant::now();
        let plan = self.setup.plan.clone();
        let learner = self.learner.as_mut().ok_or_else(no_learner)?;
        // First what may fail: once compressed, what is sent has left the error feedback.
        let moments = learner.moments().map_err(failed)?;
        let body = learner
            .compress(&job.weights.values, &plan.compression)
            .map_err(failed)?;
        let header = BlobHeader {
            run: self.setup.run,
            round: job.round,
            peer: self.setup.peer,
            base_root: job.weights.root,
            layout: plan.layout.hash().into(),
            codec: self.setup.codec,
        };
        let blob = header.lead(&body);
        // Blob, error feedback and moments are on disk before anything is committed to.
        let hash = self.setup.blobs.put(&blob, Keep::Round(job.round), true)?;
        let error = learner.error_feedback().map_err(failed)?;
        self.setup.files.save(&LearnerState {
            round: job.round,
            blob: hash,
            error,
            moments,
        })?;
        self.taken_back = None;
        Ok(Contributed {
            round: job.round,
            blob: hash,
            blob_bytes: blob.len() as u64,
            samples: Samples(trained.samples),
            tokens: trained.tokens,
            skipped_steps: trained.skipped_steps,
            restorations: trained.restorations,
            mean_loss: f64::from(trained.mean_loss),
            train_seconds: trained.seconds,
            compress_seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn train_steps(&mut self, job: &TrainJob) -> Result<Trained> {
        let assignment = Assignment {
            seed: job.seed.into(),
            peer: self.setup.peer.into(),
        };
        let steps_before = job
            .round
            .0
            .saturating_mul(u64::from(self.setup.plan.inner.steps));
        let (stop_before, shared) = (self.stop_before.clone(), self.shared.clone());
        let learner = self.learner.as_mut().ok_or_else(no_learner)?;
        let trained = learner.train(
            &job.weights.values,
            &assignment,
            steps_before,
            &mut |progress| {
                shared.set_progress(LearnerProgress {
                    steps_done: progress.steps,
                    ..shared.progress()
                });
                let stopped = stop_before.load(Ordering::Acquire) > job.round.0;
                if stopped || Instant::now() >= job.deadline {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        if let Ok(Trained {
            seconds,
            data_seconds,
            ..
        }) = &trained
            && *data_seconds > SLOW_DATA * seconds
        {
            tracing::warn!(
                "training waited {data_seconds:.1} s of {seconds:.1} s for its data: is the disk slow?"
            );
        }
        self.shared.change_health(|health| match &trained {
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
        trained.map_err(failed)
    }

    /// Puts back what an own contribution held that was never applied, so that nothing learnt is
    /// lost. Where it cannot be read any more there is nothing to put back, in this round as in any
    /// other.
    fn take_back(&mut self, hash: &BlobHash) -> Result<()> {
        let Some(blob) = self.setup.blobs.get(hash)? else {
            return Ok(());
        };
        let contribution = match open(&self.setup.plan, &blob) {
            Ok(contribution) => contribution,
            Err(error) => {
                tracing::warn!(%error, "an own contribution that was not applied cannot be read, and is lost");
                return Ok(());
            }
        };
        let learner = self.learner.as_mut().ok_or_else(no_learner)?;
        let mut error = learner.error_feedback().map_err(failed)?;
        add_back(&self.setup.plan.layout, &contribution, &mut error)
            .map_err(|error| Error::Internal(error.to_string()))?;
        match learner.restore_error_feedback(error) {
            Err(error @ weal_trainer::Error::ErrorFeedback { .. }) => {
                tracing::warn!(%error, "an own contribution that was not applied is not put back");
                Ok(())
            }
            restored => restored.map_err(failed),
        }
    }

    pub(super) fn evaluate(&mut self, weights: &Weights) -> Option<LearnerEvent> {
        self.learner.as_ref()?;
        self.shared.set_progress(LearnerProgress {
            busy: true,
            ..self.shared.progress()
        });
        let sequences = self.setup.evaluation_sequences;
        let measured = self.attempt(|thread| {
            let learner = thread.learner.as_mut().ok_or_else(no_learner)?;
            learner
                .heldout_loss(&weights.values, sequences)
                .map_err(failed)
        });
        self.rest();
        match measured {
            Ok(evaluation) => Some(LearnerEvent::Evaluated {
                round: weights.round,
                nats_per_byte: evaluation.nats_per_byte,
            }),
            Err(Error::Device(why)) => Some(self.lose_device(why)),
            Err(error) => {
                tracing::warn!(%error, "the held-out loss cannot be measured");
                None
            }
        }
    }
}

/// A learner that goes on from what was learnt; from zeros where that cannot be used.
fn make_learner(
    setup: &LearnerSetup,
    device: &OpenDevice,
    learnt: Option<LearnerState>,
) -> Result<Learner> {
    let plan = &setup.plan;
    let mut learner = Learner::new(
        plan.model.clone(),
        plan.inner.clone(),
        setup.corpus.clone(),
        device,
    )
    .map_err(|error| Error::Device(error.to_string()))?;
    let compute = &setup.compute;
    let choice = device
        .memory_planner(compute.memory_cap())
        .plan(&plan.model, plan.inner.batch as usize, &compute.wishes())
        .map_err(|error| Error::Device(error.to_string()))?;
    if choice.fits() {
        tracing::info!("{choice}");
    } else {
        tracing::warn!("{choice}: this may not fit; `weal doctor` says what would");
    }
    learner
        .set_plan(&choice.compute)
        .map_err(|error| Error::Device(error.to_string()))?;
    let Some(state) = learnt else {
        return Ok(learner);
    };
    // A device that fails is reported; what cannot be used is left behind.
    let usable = |what: &str, restored: weal_trainer::Result<()>| match restored.map_err(failed) {
        Err(Error::Internal(error)) => {
            tracing::warn!(
                error,
                "{what} saved last cannot be used; training begins with zeros"
            );
            Ok(())
        }
        restored => restored,
    };
    usable(
        "the optimiser's moments",
        learner.restore_moments(&state.moments),
    )?;
    usable(
        "the error feedback",
        learner.restore_error_feedback(state.error),
    )?;
    Ok(learner)
}

fn no_learner() -> Error {
    Error::Device("there is no device to train on".into())
}

/// A failure of the trainer: that of its device apart from all others.
fn failed(error: weal_trainer::Error) -> Error {
    match error {
        error @ (weal_trainer::Error::Device { .. } | weal_trainer::Error::NoDevice { .. }) => {
            Error::Device(error.to_string())
        }
        error => Error::Internal(error.to_string()),
    }
}

/// The contribution in a blob whose header was checked.
pub(super) fn open(plan: &Plan, blob: &[u8]) -> Result<Contribution> {
    let (_, body) = BlobHeader::split(blob).map_err(|error| Error::Internal(error.to_string()))?;
    decode(&plan.layout, &plan.compression, body, plan.max_blob_bytes)
        .map_err(|error| Error::Internal(error.to_string()))
}
