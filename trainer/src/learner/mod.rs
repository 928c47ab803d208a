//! A peer's learner: trains from a round's weights on its own samples, and measures weights.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use weal_kernels::{Compression, Layout};

use crate::compute::ComputePlan;
use crate::corpus::{Corpus, Window};
use crate::device::OpenDevice;
use crate::divergence::{Course, Doubt};
use crate::engine::{Batch, Engine, MomentVectors, Update};
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::inner::InnerSpec;
use crate::loader::Loader;
use crate::moments::{self, SavedMoments};
use crate::sampling::Assignment;
use crate::spec::ModelSpec;

/// Where the training of a round stands, told after every inner step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Inner steps done in this call.
    pub steps: u64,
    /// Inner steps of the round (H).
    pub of_steps: u64,
    /// Samples trained on in this call.
    pub samples: u64,
    /// Tokens trained on in this call.
    pub tokens: u64,
    /// Loss of the last step before its update, in nats per token; not finite where the step was
    /// skipped.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Global norm of the last step's gradient before clipping.
    pub gradient_norm: f64,
    /// Seconds since the call began.
    pub seconds: f64,
}

/// What a call of [`Learner::train`] did.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Inner steps done, skipped ones included.
    pub steps: u64,
    /// Steps whose loss or gradient was not finite, and which therefore changed nothing.
    pub skipped_steps: u64,
    /// How often training led to values that are not finite, and went back to the agreed weights.
    pub restorations: u64,
    /// Samples trained on: the peer's samples `0..samples` of the round.
    pub samples: u64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Mean loss over the steps that were learnt from, each before its update, in nats per token.
    pub mean_loss: f32,
    /// Seconds that it took.
    pub seconds: f64,
    /// Seconds of them in which training waited for data.
    pub data_seconds: f64,
}

/// How well weights predict some text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss, in nats per byte of text.
    pub nats_per_byte: f64,
    /// Mean loss, in nats per predicted token.
    pub nats_per_token: f64,
    /// Predicted tokens.
    pub tokens: u64,
    /// Bytes of text that they stand for.
    pub bytes: u64,
}

/// What to measure weights on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples<'a> {
    /// That many windows spread evenly over the held-out part; 0 for all of it, once.
    Heldout {
        /// Windows.
        sequences: usize,
    },
    /// Windows of the held-out part drawn with a seed, which may be private to the one who
    /// measures.
    RandomHeldout {
        /// The seed.
        seed: [u8; 32],
        /// Windows.
        sequences: usize,
    },
    /// Some samples of the stream that a round assigned to a peer.
    Assigned {
        /// The stream.
        assignment: &'a Assignment,
        /// Numbers of samples in it.
        indices: &'a [u64],
    },
}

/// A model on a device with a corpus and an inner optimiser whose moments live on between rounds.
pub struct Learner {
    spec: ModelSpec,
    inner: InnerSpec,
    corpus: Arc<Corpus>,
    layout: Layout,
    engine: Engine,
    /// Updates behind the moments.
    updates: u64,
}

impl Learner {
    /// A learner with empty moments.
    ///
    /// # Errors
    /// Where the model or the optimiser's settings are out of range, where the tokeniser has more
    /// tokens than the model, or where the corpus is too short for one window.
    pub fn new(
        model: ModelSpec,
        inner: InnerSpec,
        corpus: Arc<Corpus>,
        device: &OpenDevice,
    ) -> Result<Self> {
        let layout = model.layout()?;
        inner.validate()?;
        let tokeniser = corpus.tokeniser().vocabulary();
        if tokeniser > model.vocabulary {
            return Err(Error::Vocabulary {
                tokeniser,
                model: model.vocabulary,
            });
        }
        corpus.check(model.context)?;
        let engine = device.engine(&model)?;
        Ok(Self {
            spec: model,
            inner,
            corpus,
            layout,
            engine,
            updates: 0,
        })
    }

    /// Uses the device as a plan says, from now on. Nothing is allocated before this is called or
    /// something is computed. Where memory runs out in a step all the same, the step is taken with
    /// less.
    ///
    /// # Errors
    /// [`Error::Precision`] where the device does not multiply in the plan's precision;
    /// [`Error::Device`] where it fails.
    pub fn arrange(&mut self, plan: &ComputePlan) -> Result<()> {
        self.engine.arrange(plan)
    }

    /// The model's tensor layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The corpus.
    pub fn corpus(&self) -> &Arc<Corpus> {
        &self.corpus
    }

    /// One round's inner training from `theta`.
    ///
    /// Step s takes the samples s · batch .. (s + 1) · batch of `assignment`'s stream.
    /// `steps_done_before` counts the inner steps of the whole run before this round (round · H)
    /// and drives the learning-rate schedule. After each step `control` is told, and may break off;
    /// training ends after H steps at the latest. Moments are kept for the next round. A step whose
    /// loss or gradient is not finite changes nothing and is counted. Where earlier steps led
    /// there, what they learnt is dropped, moments included, and training goes on from `theta`.
    ///
    /// # Errors
    /// [`Error::Diverged`] where nothing is learnt in the end; the learner is fit for the next
    /// round then. [`Error::NotFinite`] and [`Error::Length`] for weights that cannot be trained
    /// from; [`Error::Device`] where the device fails, after which a new learner has to be made.
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
        let (mut course, mut waited) = (Course::default(), Duration::ZERO);
        let batch_size = u64::from(self.inner.batch);
        let samples = |steps: u64| steps * batch_size;
        let (corpus, assignment) = (self.corpus.clone(), *assignment);
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
            while course.steps < of_steps {
                let batch = loader.next()?;
                let update = self.update(steps_done_before.saturating_add(course.steps));
                let report = self.engine.step(&batch, &update)?;
                self.updates += u64::from(report.is_finite());
                let is_lost = match course.took(&report, update.learning_rate) {
                    Doubt::None => false,
                    Doubt::Weights => !self.engine.is_sound()?,
                    Doubt::Certain => true,
                };
                if is_lost {
                    self.go_back(theta, &mut course)?;
                }
                let steps = course.steps;
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
        // No loss was computed since the last update.
        if course.has_learnt() && !self.engine.is_sound()? {
            self.go_back(theta, &mut course)?;
        }
        Ok(Trained {
            steps: course.steps,
            skipped_steps: course.skipped,
            restorations: course.restorations,
            samples: samples(course.steps),
            tokens: samples(course.steps) * context as u64,
            mean_loss: course.mean_loss()?,
            seconds: start.elapsed().as_secs_f64(),
            data_seconds: waited.as_secs_f64(),
        })
    }

    /// Drops what was learnt. What led away from numbers is in the moments, too.
    fn go_back(&mut self, theta: &[f32], course: &mut Course) -> Result<()> {
        course.restored();
        self.engine.load(theta)?;
        self.forget_moments()
    }

    fn forget_moments(&mut self) -> Result<()> {
        let zeros = || vec![0.0; self.layout.parameters()];
        self.engine.set_moments(&MomentVectors {
            first: zeros(),
            second: zeros(),
        })?;
        self.updates = 0;
        Ok(())
    }

    /// The loss of `theta` on `sequences` windows spread evenly over the held-out part; 0 for all
    /// of it, once.
    pub fn heldout_loss(&mut self, theta: &[f32], sequences: usize) -> Result<Evaluation> {
        self.loss(theta, Samples::Heldout { sequences })
    }

    /// The loss of `theta` on `samples`.
    pub fn loss(&mut self, theta: &[f32], samples: Samples) -> Result<Evaluation> {
        self.load(theta)?;
        let windows = self.windows(samples);
        let (mut nats, mut tokens, mut bytes) = (0.0, 0, 0);
        for starts in windows.chunks(self.inner.batch as usize) {
            let windows: Vec<Window> = starts
                .iter()
                .map(|start| self.window(samples, *start))
                .collect::<Result<_>>()?;
            bytes += windows.iter().map(|window| window.bytes).sum::<u64>();
            let batch = Batch::new(
                windows.into_iter().map(|window| window.tokens),
                self.spec.context,
            );
            tokens += batch.predictions() as u64;
            nats += self.engine.loss(&batch)?;
        }
        Ok(Evaluation {
            nats_per_byte: nats / bytes.max(1) as f64,
            nats_per_token: nats / tokens.max(1) as f64,
            tokens,
            bytes,
        })
    }

    /// The optimiser's moments as versioned bytes: 24 bytes, and 8 for each parameter. Moments that
    /// cannot be gone on from are dropped first, here and in the learner, which begins with fresh
    /// ones.
    pub fn moments(&mut self) -> Result<Vec<u8>> {
        let updates = self.updates;
        let sound = self.engine.with_moments(|first, second| {
            moments::check(first, second).map(|()| SavedMoments::to_bytes(updates, first, second))
        })?;
        sound.or_else(|error| {
            tracing::warn!(%error, "the optimiser begins with fresh moments");
            self.forget_moments()?;
            self.engine
                .with_moments(|first, second| SavedMoments::to_bytes(0, first, second))
        })
    }

    /// Goes on from moments that [`Self::moments`] gave. On an error the moments stay as they are.
    pub fn restore_moments(&mut self, bytes: &[u8]) -> Result<()> {
        let saved = SavedMoments::from_bytes(bytes, self.layout.parameters())?;
        self.engine.set_moments(&saved.vectors)?;
        self.updates = saved.updates;
        Ok(())
    }

    /// The weights on the device, flat, in the layout's order: after [`Self::train`], those after
    /// its last step.
    ///
    /// # Errors
    /// [`Error::Device`] where the device fails.
    pub fn weights(&mut self) -> Result<Vec<f32>> {
        self.engine.weights()
    }

    /// Compresses what the last [`Self::train`] made of `theta` to the body of a contribution, on
    /// the device. What could not be sent becomes the error feedback, which stays on the device
    /// until the next round.
    ///
    /// The weights are those that were trained or measured last: call this before anything else is
    /// measured.
    ///
    /// # Errors
    /// [`Error::Compress`] where a value is not finite, which is named, or where the settings make
    /// no sense; the error feedback stays as it is then, but for values that are not finite, which
    /// become zeros. [`Error::Length`], and [`Error::Device`] where the device fails.
    pub fn compress(&mut self, theta: &[f32], compression: &Compression) -> Result<Vec<u8>> {
        check_weights(&self.layout, theta)?;
        let body = self.engine.compress(compression, theta);
        if let Err(Error::Compress(weal_kernels::Error::NotFinite { .. })) = &body {
            self.mend_error_feedback()?;
        }
        body
    }

    /// Takes out what is not finite, which no later round could get rid of.
    fn mend_error_feedback(&mut self) -> Result<()> {
        let mut error = self.engine.error_feedback()?;
        let bad = error
            .iter_mut()
            .filter(|value| !value.is_finite())
            .map(|value| *value = 0.0)
            .count();
        if bad > 0 {
            tracing::warn!(
                values = bad,
                "the error feedback was not finite in places; it begins with zeros there"
            );
            self.engine.set_error_feedback(error);
        }
        Ok(())
    }

    /// The error feedback, flat, in the layout's order: zeros at first.
    pub fn error_feedback(&mut self) -> Result<Vec<f32>> {
        self.engine.error_feedback()
    }

    /// Goes on from an error feedback that [`Self::error_feedback`] gave, and to which
    /// [`weal_kernels::add_back`] may have given back what was not applied.
    ///
    /// # Errors
    /// [`Error::Length`] where it belongs to another model, [`Error::ErrorFeedback`] where a value
    /// is not finite.
    pub fn restore_error_feedback(&mut self, error: Vec<f32>) -> Result<()> {
        let (found, expected) = (error.len(), self.layout.parameters());
        if found != expected {
            return Err(Error::Length {
                what: "the error feedback",
                found,
                expected,
            });
        }
        if let Err(Error::NotFinite { tensor }) = check_weights(&self.layout, &error) {
            return Err(Error::ErrorFeedback { tensor });
        }
        self.engine.set_error_feedback(error);
        Ok(())
    }

    fn load(&mut self, theta: &[f32]) -> Result<()> {
        check_weights(&self.layout, theta)?;
        self.engine.load(theta)
    }

    /// Tokens a second that the corpus gives for so many steps, where nothing is trained on them.
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

    /// First tokens of the windows that `samples` stands for.
    fn windows(&self, samples: Samples) -> Vec<u64> {
        let context = self.spec.context;
        let heldout = self.corpus.heldout_windows(context);
        match samples {
            Samples::Heldout { sequences } => {
                let apart = context as u64;
                let all = (heldout - 1) / apart + 1;
                match sequences as u64 {
                    0 => (0..all).map(|index| index * apart).collect(),
                    sequences if sequences >= all => (0..all).map(|index| index * apart).collect(),
                    sequences => (0..sequences)
                        .map(|index| index * all / sequences * apart)
                        .collect(),
                }
            }
            Samples::RandomHeldout { seed, sequences } => {
                let stream = Assignment {
                    seed,
                    peer: [0; 32],
                };
                (0..sequences as u64)
                    .map(|index| stream.sample(index, heldout))
                    .collect()
            }
            Samples::Assigned {
                assignment,
                indices,
            } => {
                let training = self.corpus.training_windows(context);
                indices
                    .iter()
                    .map(|index| assignment.sample(*index, training))
                    .collect()
            }
        }
    }

    fn window(&self, samples: Samples, start: u64) -> Result<Window> {
        match samples {
            Samples::Assigned { .. } => self.corpus.training_window(start, self.spec.context),
            _ => self.corpus.heldout_window(start, self.spec.context),
        }
    }
}

/// The batch of the samples `indices` of a stream.
fn assigned_batch(
    corpus: &Corpus,
    context: usize,
    assignment: &Assignment,
    indices: Range<u64>,
) -> Result<Batch> {
    let windows = corpus.training_windows(context);
    let row = |index| {
        Ok(corpus
            .training_window(assignment.sample(index, windows), context)?
            .tokens)
    };
    let rows: Vec<Vec<u32>> = indices.map(row).collect::<Result<_>>()?;
    Ok(Batch::new(rows, context))
}

#[cfg(test)]
mod tests;
