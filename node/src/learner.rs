//! The thread that trains. It owns the model, and with it error feedback and moments; everything else talks to it through
//! a bounded queue, so that neither the network nor the rules ever wait for a GPU.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::mpsc;
use weal_kernels::{Contribution, add_back, decode};
use weal_proto::{BlobHash, BlobHeader, PeerId, RoundNumber, RunId, Samples, Seed};
use weal_trainer::{Assignment, Corpus, Learner, OpenDevice};

use crate::error::{Error, Result};
use crate::model::Plan;
use crate::settings::ComputeSettings;
use crate::store::blobs::{Blobs, Keep};
use crate::store::learner::{LearnerFiles, LearnerState};
use crate::store::weights::Weights;

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
    /// Own contribution of an earlier round that was not applied: what it held goes back into the error feedback.
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
    /// What was learnt cannot be stored: the node must not go on.
    Unstored(Error),
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
    /// Mean training loss, in nats per byte where a token is a byte, else per token.
    pub mean_loss: f64,
    /// Seconds of inner steps.
    pub train_seconds: f64,
    /// Seconds of compressing and storing.
    pub compress_seconds: f64,
}

/// How far the running training is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LearnerProgress {
    /// Steps done.
    pub steps_done: u64,
    /// Whether anything is being computed.
    pub busy: bool,
}

/// The way to the learner's thread.
#[derive(Clone)]
pub struct LearnerHandle {
    jobs: SyncSender<Job>,
    /// Training of rounds below this number is to stop.
    stop_before: Arc<AtomicU64>,
    progress: Arc<RwLock<LearnerProgress>>,
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
        let handle = Self { jobs, stop_before: Arc::default(), progress: Arc::default() };
        let mut thread = LearnerThread::new(setup, handle.stop_before.clone(), handle.progress.clone())?;
        std::thread::Builder::new()
            .name("learner".into())
            .spawn(move || thread.run(&queue, &events))
            .map_err(|error| Error::Internal(format!("the learner's thread cannot start: {error}")))?;
        Ok(handle)
    }

    /// Trains a round.
    pub fn train(&self, job: TrainJob) {
        self.stop_before.store(job.round.0, Ordering::Release);
        self.send(Job::Train(Box::new(job)));
    }

    /// Measures the held-out loss of weights, when nothing is being trained.
    pub fn evaluate(&self, weights: Weights) {
        self.send(Job::Evaluate(weights));
    }

    fn send(&self, job: Job) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(job) {
            tracing::warn!("the learner is far behind; a job was dropped");
        }
    }

    /// Stops the training of this and earlier rounds.
    pub fn stop(&self, round: RoundNumber) {
        self.stop_before.fetch_max(round.0.saturating_add(1), Ordering::AcqRel);
    }

    /// How far the running training is.
    pub fn progress(&self) -> LearnerProgress {
        *self.progress.read().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LearnerThread {
    setup: LearnerSetup,
    learner: Learner,
    /// The contribution that was put back into the error feedback since that was last saved: not to be put back twice.
    taken_back: Option<BlobHash>,
    stop_before: Arc<AtomicU64>,
    progress: Arc<RwLock<LearnerProgress>>,
}

impl LearnerThread {
    fn new(
        mut setup: LearnerSetup,
        stop_before: Arc<AtomicU64>,
        progress: Arc<RwLock<LearnerProgress>>,
    ) -> Result<Self> {
        let learnt = setup.learnt.take();
        let plan = &setup.plan;
        let mut learner = Learner::new(plan.model.clone(), plan.inner.clone(), setup.corpus.clone(), &setup.device)
            .map_err(|error| Error::Device(error.to_string()))?;
        let compute = &setup.compute;
        let refused = |error: weal_trainer::Error| Error::Device(error.to_string());
        let site = setup.device.site(compute.memory_cap());
        let choice = site.choose(&plan.model, plan.inner.batch as usize, &compute.wishes()).map_err(refused)?;
        if choice.fits() {
            tracing::info!("{choice}");
        } else {
            tracing::warn!("{choice}: this may not fit; `weal doctor` says what would");
        }
        learner.arrange(&choice.plan).map_err(refused)?;
        if let Some(state) = learnt {
            if let Err(error) = learner.restore_moments(&state.moments) {
                tracing::warn!(%error, "the optimiser's moments do not fit; it begins with zeros");
            }
            learner.restore_error_feedback(state.error).map_err(|error| Error::Internal(error.to_string()))?;
        }
        Ok(Self { setup, learner, taken_back: None, stop_before, progress })
    }

    fn run(&mut self, jobs: &Receiver<Job>, events: &mpsc::Sender<LearnerEvent>) {
        while let Ok(job) = jobs.recv() {
            self.set_progress(LearnerProgress { steps_done: 0, busy: true });
            let event = match job {
                Job::Train(job) => Some(self.train(&job)),
                Job::Evaluate(weights) => self.evaluate(&weights),
            };
            self.set_progress(LearnerProgress { busy: false, ..self.current_progress() });
            if let Some(event) = event
                && events.blocking_send(event).is_err()
            {
                return;
            }
        }
    }

    fn current_progress(&self) -> LearnerProgress {
        *self.progress.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_progress(&self, progress: LearnerProgress) {
        *self.progress.write().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    fn train(&mut self, job: &TrainJob) -> LearnerEvent {
        match self.contribute(job) {
            Ok(contributed) => LearnerEvent::Trained(Box::new(contributed)),
            Err(error @ Error::Storage { .. }) => LearnerEvent::Unstored(error),
            Err(error) => LearnerEvent::Failed { round: job.round, why: error.to_string() },
        }
    }

    fn contribute(&mut self, job: &TrainJob) -> Result<Contributed> {
        if job.unapplied != self.taken_back
            && let Some(blob) = job.unapplied
        {
            self.take_back(&blob)?;
            self.taken_back = job.unapplied;
        }
        let plan = self.setup.plan.clone();
        let assignment = Assignment { seed: job.seed.into(), peer: self.setup.peer.into() };
        let steps_before = job.round.0.saturating_mul(u64::from(plan.inner.steps));
        let stop_before = self.stop_before.clone();
        let shared = self.progress.clone();
        let trained = self
            .learner
            .train(&job.weights.values, &assignment, steps_before, &mut |progress| {
                *shared.write().unwrap_or_else(PoisonError::into_inner) =
                    LearnerProgress { steps_done: progress.steps, busy: true };
                let stopped = stop_before.load(Ordering::Acquire) > job.round.0;
                if stopped || Instant::now() >= job.deadline {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .map_err(|error| Error::Internal(error.to_string()))?;
        if self.stop_before.load(Ordering::Acquire) > job.round.0 {
            return Err(Error::Internal("stopped: the round went on without it".into()));
        }
        let started = Instant::now();
        let internal = |error: weal_trainer::Error| Error::Internal(error.to_string());
        // First what may fail: once compressed, what is sent has left the error feedback.
        let moments = self.learner.moments().map_err(internal)?;
        let body = self.learner.compress(&job.weights.values, &plan.compression).map_err(internal)?;
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
        let error = self.learner.error_feedback().map_err(internal)?;
        self.setup.files.save(&LearnerState { round: job.round, blob: hash, error, moments })?;
        self.taken_back = None;
        Ok(Contributed {
            round: job.round,
            blob: hash,
            blob_bytes: blob.len() as u64,
            samples: Samples(trained.samples),
            tokens: trained.tokens,
            mean_loss: f64::from(trained.mean_loss),
            train_seconds: trained.seconds,
            compress_seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Puts back what an own contribution held that was never applied, so that nothing learnt is lost.
    fn take_back(&mut self, hash: &BlobHash) -> Result<()> {
        let Some(blob) = self.setup.blobs.get(hash)? else { return Ok(()) };
        let contribution = open(&self.setup.plan, &blob)?;
        let internal = |error: weal_trainer::Error| Error::Internal(error.to_string());
        let mut error = self.learner.error_feedback().map_err(internal)?;
        add_back(&self.setup.plan.layout, &contribution, &mut error)
            .map_err(|error| Error::Internal(error.to_string()))?;
        self.learner.restore_error_feedback(error).map_err(internal)
    }

    fn evaluate(&mut self, weights: &Weights) -> Option<LearnerEvent> {
        match self.learner.heldout_loss(&weights.values, self.setup.evaluation_sequences) {
            Ok(evaluation) => {
                Some(LearnerEvent::Evaluated { round: weights.round, nats_per_byte: evaluation.nats_per_byte })
            }
            Err(error) => {
                tracing::warn!(%error, "the held-out loss cannot be measured");
                None
            }
        }
    }
}

/// The contribution in a blob whose header was checked.
fn open(plan: &Plan, blob: &[u8]) -> Result<Contribution> {
    let (_, body) = BlobHeader::split(blob).map_err(|error| Error::Internal(error.to_string()))?;
    decode(&plan.layout, &plan.compression, body, plan.max_blob_bytes)
        .map_err(|error| Error::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weal_kernels::Compression;
    use weal_trainer::{InnerSpec, ModelSpec, Source, Tokeniser};

    use super::*;
    use crate::store::Store;

    fn plan() -> Plan {
        let model = ModelSpec {
            width: 16,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            feed_forward: 32,
            context: 16,
            ..ModelSpec::preset("nano").unwrap()
        };
        let compression = Compression { chunk: 1024, keep: 16, ..Compression::default() };
        let layout = model.layout().unwrap();
        let inner = InnerSpec { steps: 2, ..InnerSpec::default() };
        Plan { model, inner, layout, compression, max_blob_bytes: 1 << 20 }
    }

    fn thread(folder: &std::path::Path) -> LearnerThread {
        let store = Store::open(&folder.join("store.redb"), [1; 32].into()).unwrap();
        let text = Source::Generated { seed: [4; 32], bytes: 4096 };
        let setup = LearnerSetup {
            run: [1; 32].into(),
            peer: [2; 32].into(),
            plan: Arc::new(plan()),
            corpus: Arc::new(Corpus::new(&[text], Tokeniser::Bytes).unwrap()),
            device: OpenDevice::cpu(),
            blobs: Blobs::open(folder.join("blobs"), store).unwrap(),
            files: LearnerFiles::new(folder.join("learner")),
            learnt: None,
            evaluation_sequences: 4,
            codec: 2,
            compute: ComputeSettings::default(),
        };
        LearnerThread::new(setup, Arc::default(), Arc::default()).unwrap()
    }

    fn job(round: u64, unapplied: Option<BlobHash>) -> TrainJob {
        let plan = plan();
        let values = weal_trainer::initial_weights(&plan.model, &[3; 32]).unwrap();
        let round = RoundNumber(round);
        let weights = Weights::new(&plan.layout, round, values).unwrap();
        let deadline = Instant::now() + Duration::from_secs(600);
        TrainJob { round, seed: [5; 32].into(), weights, deadline, unapplied }
    }

    #[test]
    fn what_was_not_applied_goes_back_into_the_error_feedback_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut thread = thread(folder.path());
        let made = thread.contribute(&job(0, None)).unwrap();
        let kept_back = thread.learner.error_feedback().unwrap();
        let mut whole = kept_back.clone();
        let blob = thread.setup.blobs.get(&made.blob).unwrap().unwrap();
        let plan = plan();
        add_back(&plan.layout, &open(&plan, &blob).unwrap(), &mut whole).unwrap();
        assert_ne!(whole, kept_back);

        // The rounds go on without it, twice: each time it is asked to take the same contribution back.
        thread.stop_before.store(u64::MAX, Ordering::Release);
        for round in [1, 2] {
            let why = thread.contribute(&job(round, Some(made.blob))).unwrap_err().to_string();
            assert!(why.contains("stopped"), "{why}");
            assert_eq!(thread.learner.error_feedback().unwrap(), whole, "in round {round}");
        }

        // A contribution that is made holds it; the one after that, left out in its turn, is taken back itself.
        thread.stop_before.store(0, Ordering::Release);
        let second = thread.contribute(&job(3, Some(made.blob))).unwrap();
        let kept_back = thread.learner.error_feedback().unwrap();
        thread.stop_before.store(u64::MAX, Ordering::Release);
        thread.contribute(&job(4, Some(second.blob))).unwrap_err();
        assert_ne!(thread.learner.error_feedback().unwrap(), kept_back);
    }
}
