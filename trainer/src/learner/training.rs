//! [`Learner`]: inner training, losses, and compressing the result.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use weal_kernels::{Compression, Layout};

use super::report::{Evaluation, Progress, Trained};
use super::samples::{Samples, assigned_batch, batch_of};
use crate::compute_plan::ComputePlan;
use crate::corpus::{Corpus, Window};
use crate::device::OpenDevice;
use crate::divergence::{Divergence, DivergenceMonitor};
use crate::engine::{Engine, Update};
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::inner::InnerSpec;
use crate::loader::Loader;
use crate::sampling::Assignment;
use crate::spec::ModelSpec;

/// A model on a device, with a corpus and an inner optimiser whose moments persist between rounds.
pub struct Learner {
    pub(super) spec: ModelSpec,
    pub(super) inner: InnerSpec,
    pub(super) corpus: Arc<Corpus>,
    pub(super) layout: Layout,
    pub(super) engine: Engine,
    /// Updates that the moments have seen.
    pub(super) updates: u64,
    /// The seed of the judge whose round's weights are loaded.
    pub(super) judges: Option<[u8; 32]>,
}

impl Learner {
    /// A learner with empty moments.
    ///
    /// # Errors
    /// If the model or the optimiser's settings are out of range, if the tokeniser has more tokens
    /// than the model, or if the corpus is too short for one window.
    pub fn new(
        model: ModelSpec,
        inner: InnerSpec,
        corpus: Arc<Corpus>,
        device: &OpenDevice,
    ) -> Result<Self> {
        let layout = model.layout()?;
        inner.validate()?;
        corpus.tokeniser().check_fits(&model)?;
        corpus.check(model.context)?;
        let engine = Engine::on(device, &model)?;
        let engine = match inner.muon() {
            Some(_) => engine.with_muon(),
            None => engine,
        };
        Ok(Self {
            spec: model,
            inner,
            corpus,
            layout,
            engine,
            updates: 0,
            judges: None,
        })
    }

    /// Uses the device as `plan` says from now on. The learner allocates nothing on the device
    /// before this call or its first computation. If a step runs out of memory in spite of the
    /// plan, the learner retries it with less.
    ///
    /// # Errors
    /// [`Error::Precision`] if the device does not multiply in the plan's precision;
    /// [`Error::Device`] if it fails.
    pub fn set_plan(&mut self, plan: &ComputePlan) -> Result<()> {
        self.engine.set_plan(plan)
    }

    /// The order, names and shapes of the model's tensors.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The corpus that the learner trains on.
    pub fn corpus(&self) -> &Arc<Corpus> {
        &self.corpus
    }

    /// Trains for one round, starting from `theta`.
    ///
    /// Step s takes the samples s · batch .. (s + 1) · batch of `assignment`.
    /// `steps_done_before` counts the inner steps of the whole run before this round (round · H)
    /// and drives the learning-rate schedule. `control` is called after each step and may stop
    /// training, which ends after H steps at the latest. The moments stay for the next round. A
    /// step whose loss or gradient is not finite is skipped and counted. If earlier steps diverged,
    /// what they learnt is dropped, moments included, and training continues from `theta`.
    ///
    /// # Errors
    /// [`Error::Diverged`] if nothing was learnt in the end; the learner can train the next round.
    /// [`Error::NotFinite`] and [`Error::Length`] for unusable weights. [`Error::Device`] if the
    /// device fails; make a new learner then.
    pub fn train(
        &mut self,
        theta: &[f32],
        assignment: &Assignment,
        steps_done_before: u64,
        control: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Trained> {
        let start = Instant::now();
        self.load(theta)?;
        let (of_steps, context) = (u64::from(self.inner.steps), self.spec.context);
        let (mut monitor, mut waited) = (DivergenceMonitor::default(), Duration::ZERO);
        let batch_size = u64::from(self.inner.batch);
        let samples = |steps: u64| steps * batch_size;
        let (corpus, assignment) = (self.corpus.clone(), assignment.clone());
        let read = move |step| {
            assigned_batch(
                &corpus,
                context,
                &assignment,
                samples(step)..samples(step + 1),
            )
        };
        thread::scope(|scope| {
            let mut loader = Loader::start(scope, 0..of_steps, read);
            while monitor.steps < of_steps {
                let batch = loader.next()?;
                let update = self.update(steps_done_before.saturating_add(monitor.steps));
                let report = self.engine.step(&batch, &update)?;
                self.updates += u64::from(report.is_finite());
                let diverged = match monitor.record(&report, update.learning_rate) {
                    Divergence::None => false,
                    Divergence::IfWeightsAreNotFinite => !self.engine.has_finite_weights()?,
                    Divergence::Certain => true,
                };
                if diverged {
                    self.return_to(theta, &mut monitor)?;
                }
                let steps = monitor.steps;
                let progress = Progress {
                    steps,
                    of_steps,
                    samples: samples(steps),
                    tokens: samples(steps) * context as u64,
                    loss: report.loss,
                    learning_rate: update.learning_rate,
                    gradient_norm: report.gradient_norm,
                    seconds: start.elapsed().as_secs_f64(),
                };
                if control(&progress).is_break() {
                    break;
                }
            }
            waited = loader.waited();
            Ok::<_, Error>(())
        })?;
        // No loss has checked the weights since the last update.
        if monitor.has_learnt() && !self.engine.has_finite_weights()? {
            self.return_to(theta, &mut monitor)?;
        }
        Ok(Trained {
            steps: monitor.steps,
            skipped_steps: monitor.skipped,
            restorations: monitor.restorations,
            samples: samples(monitor.steps),
            tokens: samples(monitor.steps) * context as u64,
            mean_loss: monitor.mean_loss()?,
            seconds: start.elapsed().as_secs_f64(),
            data_seconds: waited.as_secs_f64(),
        })
    }

    /// Drops what was learnt, moments included, and returns to the agreed weights `theta`.
    fn return_to(&mut self, theta: &[f32], monitor: &mut DivergenceMonitor) -> Result<()> {
        monitor.restored();
        self.engine.load(theta)?;
        self.reset_moments();
        Ok(())
    }

    /// The loss of `theta` on `sequences` windows spread evenly over the held-out part; 0 for the
    /// whole part.
    pub fn heldout_loss(&mut self, theta: &[f32], sequences: usize) -> Result<Evaluation> {
        self.loss(theta, Samples::Heldout { sequences })
    }

    /// The loss of `theta` on `samples`.
    pub fn loss(&mut self, theta: &[f32], samples: Samples) -> Result<Evaluation> {
        self.load(theta)?;
        let context = self.spec.context;
        let windows = samples.starts(&self.corpus, context);
        let (mut nats, mut tokens, mut bytes) = (0.0, 0, 0);
        for starts in windows.chunks(self.inner.batch as usize) {
            let windows: Vec<Window> = starts
                .iter()
                .map(|start| samples.window(&self.corpus, *start, context))
                .collect::<Result<_>>()?;
            let of_all: u64 = windows.iter().map(|window| window.bytes).sum();
            let batch = batch_of(windows, context);
            let (all, learnt) = (batch.predictions() as u64, batch.learnt() as u64);
            tokens += learnt;
            bytes += of_all * learnt / all.max(1);
            nats += self.engine.loss(&batch)?;
        }
        Ok(Evaluation {
            nats_per_byte: nats / bytes.max(1) as f64,
            nats_per_token: nats / tokens.max(1) as f64,
            tokens,
            bytes,
        })
    }

    /// The weights on the device, flat, in the layout's order: after [`Self::train`], the weights
    /// after its last step.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn weights(&mut self) -> Result<Vec<f32>> {
        self.engine.weights()
    }

    /// Compresses the pseudo-gradient, `theta` minus the weights after the last [`Self::train`], to
    /// the body of a contribution. What the body leaves out becomes the error feedback, which stays
    /// on the device until the next round.
    ///
    /// The weights are those last loaded: call this before measuring anything else.
    ///
    /// # Errors
    /// [`Error::Compress`] if a value is not finite, which the error names, or if the settings are
    /// invalid. The error feedback then stays as it is, except that values that are not finite
    /// become zeros. [`Error::Length`], and [`Error::Device`] if the device fails.
    pub fn compress(&mut self, theta: &[f32], compression: &Compression) -> Result<Vec<u8>> {
        check_weights(&self.layout, theta)?;
        let body = self.engine.compress(compression, theta);
        if let Err(Error::Compress(weal_kernels::Error::NotFinite { .. })) = &body {
            self.clean_error_feedback()?;
        }
        body
    }

    /// Whether the last call of [`Self::compress`] ran on a GPU.
    pub(crate) fn compresses_on_device(&self) -> bool {
        self.engine.compresses_on_device()
    }

    pub(super) fn load(&mut self, theta: &[f32]) -> Result<()> {
        self.judges = None;
        check_weights(&self.layout, theta)?;
        self.engine.load(theta)
    }

    /// Tokens per second that the corpus delivers over `steps` steps, without training on them.
    pub(crate) fn loader_speed(&self, assignment: &Assignment, steps: u32) -> Result<f64> {
        let (batch, context) = (u64::from(self.inner.batch), self.spec.context);
        let start = Instant::now();
        let mut tokens = 0;
        for step in 0..u64::from(steps.max(1)) {
            tokens += assigned_batch(
                &self.corpus,
                context,
                assignment,
                step * batch..(step + 1) * batch,
            )?
            .predictions();
        }
        Ok(tokens as f64 / start.elapsed().as_secs_f64())
    }

    fn update(&self, global_step: u64) -> Update {
        let ppm = |value: u32| f64::from(value) / 1e6;
        Update {
            learning_rate: self.inner.learning_rate(global_step, self.updates),
            beta1: ppm(self.inner.beta1_ppm),
            beta2: ppm(self.inner.beta2_ppm),
            decay: ppm(self.inner.weight_decay_ppm),
            clip: self.inner.clip(),
            updates_before: self.updates,
            muon: self.inner.muon(),
        }
    }
}
