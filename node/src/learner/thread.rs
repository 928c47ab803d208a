//! The learner's thread: it trains one round after the other.
//!
//! When a device fails, only what was on it is lost: error feedback and moments come back as they
//! were saved with the last contribution, and the weights are the agreed ones. The thread starts
//! the interrupted round again as soon as there is a device. If the round's time is up by then, the
//! node skips it. A panic counts as a failure of the device: the learner goes, whatever state it is
//! in, and the thread lives on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use weal_proto::BlobHash;
use weal_trainer::Learner;

use super::device::TrainingDevice;
use super::event::LearnerEvent;
use super::health::{LearnerProgress, LostDevice, Shared};
use super::job::{Job, TrainJob, Wishes};
use super::judging::{Judging, LastRound};
use super::pace::Pace;
use super::restore::make_learner;
use super::setup::LearnerSetup;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::OnDeviceLoss;
use crate::store::weights::Weights;

pub(super) struct LearnerThread {
    pub(super) setup: LearnerSetup,
    /// `None` while the device is lost.
    pub(super) learner: Option<Learner>,
    device: TrainingDevice,
    /// The round to train once there is a device.
    interrupted: Option<Box<TrainJob>>,
    /// The contribution that went back into the error feedback since that was last saved. It must
    /// not go back twice.
    pub(super) taken_back: Option<BlobHash>,
    /// What others contributed to the last decided round, until it is measured.
    pub(super) judging: Option<Judging>,
    /// How long the last round was.
    pub(super) last_round: LastRound,
    /// When the training of the running one began.
    round_began: Option<Instant>,
    /// How long this node takes to finish a contribution.
    pub(super) pace: Pace,
    pub(super) wishes: Arc<Wishes>,
    pub(super) shared: Shared,
    events: mpsc::Sender<LearnerEvent>,
}

/// Why the thread wakes up.
enum Wake {
    Job(Job),
    Timer,
    /// There is time to measure a contribution.
    Idle,
}

impl LearnerThread {
    pub(super) fn new(
        mut setup: LearnerSetup,
        wishes: Arc<Wishes>,
        shared: Shared,
        events: mpsc::Sender<LearnerEvent>,
    ) -> Result<Self> {
        #[cfg(feature = "dishonest")]
        {
            setup.corpus = crate::dishonest::corpus(setup.corpus)?;
        }
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
            judging: None,
            last_round: LastRound::default(),
            round_began: None,
            pace: Pace::default(),
            wishes,
            shared,
            events,
        })
    }

    /// Works until all handles are gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Some(wake) = self.wait(jobs) {
            let event = match wake {
                Wake::Job(Job::Train(job)) => self.train(job),
                Wake::Job(Job::Judge(prepare)) => {
                    self.prepare_judging(prepare);
                    None
                }
                Wake::Job(Job::Evaluate(weights)) => self.evaluate(&weights),
                Wake::Timer => self.timer_fired(),
                Wake::Idle => self.judge_next(),
            };
            if !event.is_none_or(|event| self.tell(event)) {
                return;
            }
        }
    }

    /// Waits for the next job, for the time to open the device again, or for the end of the
    /// interrupted round. `None`: all handles are gone.
    fn wait(&self, jobs: &Receiver<Job>) -> Option<Wake> {
        let wake = self.wait_for_any(jobs);
        if let Some(Wake::Job(Job::Train(_))) = wake {
            self.wishes.training_arrived();
        }
        wake
    }

    fn wait_for_any(&self, jobs: &Receiver<Job>) -> Option<Wake> {
        if let Some(judging) = self.judging.as_ref().filter(|_| self.learner.is_some()) {
            let next = match judging.goes_first() {
                true => Err(TryRecvError::Empty),
                false => jobs.try_recv(),
            };
            return match next {
                Ok(job) => Some(Wake::Job(job)),
                Err(TryRecvError::Empty) => Some(Wake::Idle),
                Err(TryRecvError::Disconnected) => None,
            };
        }
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

    /// Sends an event. Returns false if nobody listens.
    fn tell(&self, event: LearnerEvent) -> bool {
        self.events.blocking_send(event).is_ok()
    }

    /// Whether the job's round is over for this node.
    pub(super) fn is_stopped(&self, job: &TrainJob) -> bool {
        self.wishes.is_stopped(job.round)
    }

    /// Trains a round, now or as soon as there is a device.
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
        if let Some(began) = self.round_began.replace(Instant::now()) {
            self.last_round.whole = began.elapsed();
        }
        let made = self.attempt(|thread| thread.contribute(&job));
        self.set_idle();
        Some(match made {
            Ok(contributed) => {
                self.device.has_trained();
                self.last_round.training = Duration::from_secs_f64(contributed.train_seconds);
                LearnerEvent::Trained(Box::new(contributed))
            }
            Err(error) if error.kind() == ErrorKind::Device => {
                self.interrupted = Some(job);
                self.lose_device(error)
            }
            Err(error) if error.kind() == ErrorKind::Storage => LearnerEvent::Fatal(error),
            Err(error) => LearnerEvent::Failed {
                round: job.round,
                why: format!("{error:#}"),
            },
        })
    }

    fn set_idle(&self) {
        self.shared.set_progress(LearnerProgress {
            busy: false,
            due: None,
            ..self.shared.progress()
        });
    }

    /// Does some work. A panic becomes a failure of the device.
    pub(super) fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Error::device(format!(
                "the learner panicked on {}: {text}",
                self.device.name()
            )))
        })
    }

    /// Gives up the learner, because its device failed.
    pub(super) fn lose_device(&mut self, error: Error) -> LearnerEvent {
        let why = format!("{error:#}");
        let learner = self.learner.take();
        // A driver may panic once more when the memory of a lost device is freed.
        _ = catch_unwind(AssertUnwindSafe(|| drop(learner)));
        self.shared.change_health(|health| health.devices_lost += 1);
        let retry_at = self.schedule_retry(why.clone());
        let pause = retry_at.saturating_duration_since(Instant::now()).as_secs();
        let then = match self.device.on_loss() {
            OnDeviceLoss::Restart => return LearnerEvent::Fatal(restart_wanted(error)),
            OnDeviceLoss::Fallback if pause == 0 => "continuing on the CPU".to_owned(),
            OnDeviceLoss::Fallback => format!("continuing on the CPU in {pause} s"),
            OnDeviceLoss::Wait if pause == 0 => "opening it again".to_owned(),
            OnDeviceLoss::Wait => format!("opening it again in {pause} s"),
        };
        LearnerEvent::DeviceLost {
            device: self.device.name().to_owned(),
            why,
            then,
        }
    }

    /// The device failed, or could not be opened. Returns when to retry.
    fn schedule_retry(&mut self, why: String) -> Instant {
        let retry_at = self.device.has_failed(Instant::now());
        self.shared
            .change_health(|health| health.lost = Some(LostDevice { why, retry_at }));
        retry_at
    }

    /// Opens the lost device if it is time. Then starts the interrupted round again, or gives it
    /// up.
    pub(super) fn timer_fired(&mut self) -> Option<LearnerEvent> {
        let now = Instant::now();
        if self.device.retry_at().is_some_and(|at| at <= now) {
            match self.attempt(Self::replace_learner) {
                Ok(device) => {
                    self.tell(LearnerEvent::DeviceReady { device });
                }
                Err(error) => {
                    let name = self.device.name();
                    tracing::warn!("{name} cannot be opened yet: {error:#}");
                    self.schedule_retry(format!("{error:#}"));
                }
            }
        }
        let job = self.interrupted.take()?;
        if !self.is_stopped(&job) && Instant::now() < job.deadline {
            return self.train(job);
        }
        Some(LearnerEvent::Failed {
            round: job.round,
            why: "skipped: the device was lost for too long".to_owned(),
        })
    }

    /// Ends the pause before the device is opened again.
    #[cfg(test)]
    pub(super) fn skip_pause(&mut self) {
        self.device.skip_pause();
    }

    /// Makes a learner from what was saved last. Returns the device's name.
    fn replace_learner(&mut self) -> Result<String> {
        let device = self.device.open()?;
        let learnt = self.setup.files.newest();
        self.learner = Some(make_learner(&self.setup, &device, learnt)?);
        // What went back into the error feedback since then was not saved.
        self.taken_back = None;
        let name = device.name().to_owned();
        self.device.is_open(device);
        self.shared.change_health(|health| {
            health.device.clone_from(&name);
            health.lost = None;
        });
        Ok(name)
    }

    /// Measures the held-out loss of weights.
    pub(super) fn evaluate(&mut self, weights: &Weights) -> Option<LearnerEvent> {
        self.learner.as_ref()?;
        self.shared.set_progress(LearnerProgress {
            busy: true,
            ..self.shared.progress()
        });
        let sequences = self.setup.evaluation_sequences;
        let measured = self.attempt(|thread| {
            let learner = thread.learner.as_mut().ok_or_else(no_learner)?;
            Ok(learner.heldout_loss(&weights.values, sequences)?)
        });
        self.set_idle();
        weights.values.release();
        match measured {
            Ok(evaluation) => Some(LearnerEvent::Evaluated {
                round: weights.round,
                nats_per_byte: evaluation.nats_per_byte,
            }),
            Err(error) if error.kind() == ErrorKind::Device => Some(self.lose_device(error)),
            Err(error) => {
                tracing::warn!("the held-out loss cannot be measured: {error:#}");
                None
            }
        }
    }
}

pub(super) fn no_learner() -> Error {
    Error::device("no device works at the moment")
}

/// The error that the node exits with when the settings ask for a restart.
fn restart_wanted(error: Error) -> Error {
    error
        .context(
            "exiting so that a supervisor can restart the node (compute.on_device_loss = \"restart\")",
        )
        .with_kind(ErrorKind::DeviceLost)
}
