//! [`Engine`]: one model on one device, with its optimiser states and its error feedback.
//!
//! Weights stay on the device, and so do moments unless the plan keeps them in host memory. A step
//! uploads its batch once and reads two numbers back, together.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::{Device, Tensor};
use weal_kernels::update::sum_of_squares;

use crate::allocator::return_large_blocks;
use crate::compute_plan::{ComputePlan, ErrorFormat, MomentFormat, Precision, StatePlacement};
use crate::device::OpenDevice;
use crate::engine::batch::Batch;
use crate::engine::decode::{Decoder, GROUP, LEAST_GROUP};
use crate::engine::error_feedback::ErrorFeedback;
use crate::engine::gradient::TradeOff;
use crate::engine::loss_scale::LossScale;
use crate::engine::memory_trouble::is_memory_trouble;
use crate::engine::model::Model;
use crate::engine::norm::loss_and_norm;
use crate::engine::optimiser::Update;
use crate::engine::parameters::{Formats, Parameters};
use crate::engine::passes::Passes;
use crate::engine::seconds::Seconds;
use crate::engine::sums::{DeviceSums, HostSums};
use crate::engine::transfer::{Transfer, matrix_type, supports};
use crate::error::{Error, Result};
use crate::fault::InjectedFault;
use crate::kernel_warmup::WarmupWatch;
use crate::panic::panic_message;
use crate::spec::ModelSpec;

/// What an inner step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StepReport {
    /// Mean loss over the batch before the update, in nats per token.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
}

impl StepReport {
    /// Whether the step was applied. A step that is not finite changes neither weights nor moments.
    pub(crate) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

/// See the module.
pub(crate) struct Engine {
    spec: ModelSpec,
    pub(super) transfer: Transfer,
    pub(super) parameters: Parameters,
    pub(super) error_feedback: ErrorFeedback,
    /// How the error feedback is kept in host memory.
    pub(super) error_format: ErrorFormat,
    /// The parts of the model that are not learnt, for the window length used last.
    model: Model,
    /// What the next step trades for memory.
    pub(super) trade_off: TradeOff,
    /// What the next measurement of losses trades for memory.
    pub(super) evaluation_trade_off: TradeOff,
    /// Larger micro-batches run out of memory.
    #[cfg(test)]
    pub(super) most_sequences: usize,
    /// The text being generated.
    pub(super) decoder: Option<Decoder>,
    /// The most tokens of a text to read at once.
    text_group: usize,
    /// More tokens at once, times those of the text, run out of memory.
    #[cfg(test)]
    pub(crate) most_text: usize,
    pub(super) loss_scale: LossScale,
    fault: Option<InjectedFault>,
    warmup: WarmupWatch,
    /// Why the device can no longer be used.
    failure: Option<String>,
}

impl Engine {
    /// An engine for `spec` on `device`, with weights and moments of zero.
    pub(crate) fn on(device: &OpenDevice, spec: &ModelSpec) -> Result<Self> {
        let engine = Self::new(spec, device.raw().clone(), device.name().to_owned())?;
        Ok(Self {
            fault: device.fault(),
            warmup: device.warmup_watch(),
            ..engine
        })
    }

    fn new(spec: &ModelSpec, device: Device, device_name: String) -> Result<Self> {
        let layout = spec.layout()?;
        let seconds = Seconds::new(&layout, false);
        // For no window yet: tables of a long context may never be needed.
        let model = Model::new(spec, 1, &device);
        Ok(Self {
            spec: spec.clone(),
            transfer: Transfer::new(layout, device, device_name),
            parameters: Parameters::new(Formats::default(), seconds),
            error_feedback: ErrorFeedback::default(),
            error_format: ErrorFormat::F32,
            model,
            trade_off: TradeOff::default(),
            evaluation_trade_off: TradeOff::default(),
            #[cfg(test)]
            most_sequences: usize::MAX,
            decoder: None,
            text_group: GROUP,
            #[cfg(test)]
            most_text: usize::MAX,
            loss_scale: LossScale::default(),
            fault: None,
            warmup: WarmupWatch::default(),
            failure: None,
        })
    }

    /// The same engine for an optimiser with Muon, which needs no second moment of the matrices
    /// that it updates. Call it before anything is loaded.
    pub(crate) fn with_muon(self) -> Self {
        let seconds = Seconds::new(self.transfer.layout(), true);
        Self {
            parameters: Parameters::new(self.parameters.formats(), seconds),
            ..self
        }
    }

    /// Runs `work` on the device. Drivers report trouble, such as running out of memory, by
    /// panicking; the guard turns that into an error. Tensors may be half updated then, so the
    /// engine refuses all further work after a device failure.
    pub(super) fn guarded<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if self.failure.is_none() {
            let mut warmup = mem::take(&mut self.warmup);
            let done = warmup.watch(action, || catch_unwind(AssertUnwindSafe(|| work(self))));
            self.warmup = warmup;
            match done {
                Ok(Err(Error::Device { reason, .. })) => self.failure = Some(reason),
                Ok(result) => return result,
                Err(panic) => self.failure = Some(panic_message(&*panic)),
            }
        }
        let reason = self.failure.clone().unwrap_or_default();
        Err(Error::Device {
            device: self.transfer.device_name().to_owned(),
            action,
            reason,
        })
    }

    /// Uses the device as `plan` says from now on. Weights and moments move to their new places.
    ///
    /// # Errors
    /// [`Error::Precision`] if the device does not multiply in the plan's precision.
    pub(crate) fn set_plan(&mut self, plan: &ComputePlan) -> Result<()> {
        self.trade_off.sequences = plan.micro_batch.unwrap_or(usize::MAX);
        if plan.recompute && self.transfer.is_cpu() {
            return_large_blocks();
        }
        self.trade_off.recompute = plan.recompute;
        self.trade_off.by_block = plan.by_block;
        self.evaluation_trade_off = self.trade_off;
        if !supports(self.transfer.device(), plan.precision) {
            return Err(Error::Precision {
                precision: plan.precision.to_string(),
                device: self.transfer.device_name().to_owned(),
            });
        }
        self.error_format = plan.error_feedback;
        self.error_feedback.change_format(plan.error_feedback);
        let formats = Formats {
            placement: plan.states,
            precision: plan.precision,
            // Only the CPU updates moments in eight bits.
            moments: if self.transfer.is_cpu() || plan.states == StatePlacement::Host {
                plan.moments
            } else {
                MomentFormat::F32
            },
        };
        if formats == self.parameters.formats() {
            return Ok(());
        }
        let weights = if self.parameters.weights().is_empty() {
            None
        } else {
            Some(self.weights()?)
        };
        let mut moments = Vec::new();
        self.visit_moments(&mut |tensor| {
            moments.push(Some(tensor.to_owned()));
            Ok(())
        })?;
        let seconds = self.parameters.seconds().clone();
        self.parameters = Parameters::new(formats, seconds);
        weights.map_or(Ok(()), |weights| self.load(&weights))?;
        if moments.is_empty() {
            return Ok(());
        }
        self.restore_moments(&mut |index| {
            let moments = moments.get_mut(index).and_then(Option::take);
            moments.ok_or_else(|| Error::Moments("a tensor has none".to_owned()))
        })
    }

    /// Loads a flat vector of weights.
    pub(crate) fn load(&mut self, weights: &[f32]) -> Result<()> {
        self.guarded("loading weights", |engine| {
            engine.decoder = None;
            engine.parameters.load(weights, &engine.transfer);
            Ok(())
        })
    }

    /// The weights, flat, in f32.
    pub(crate) fn weights(&mut self) -> Result<Vec<f32>> {
        let action = "reading the weights back";
        self.guarded(action, |engine| {
            engine.parameters.ensure_loaded(&engine.transfer);
            engine.parameters.flat(&engine.transfer, action)
        })
    }

    /// Whether the norm of the weights is finite.
    pub(crate) fn has_finite_weights(&mut self) -> Result<bool> {
        self.guarded("checking the weights", |engine| {
            Ok(engine.parameters.norm(&engine.transfer)?.is_finite())
        })
    }

    /// One inner step: forward, backward, update. If the loss or the gradient is not finite,
    /// nothing is updated.
    pub(crate) fn step(&mut self, batch: &Batch, update: &Update) -> Result<StepReport> {
        self.guarded("taking an inner step", |engine| {
            engine.fault.iter().for_each(InjectedFault::step);
            let (gradients, report, factor) = engine.scaled_gradients(batch)?;
            if report.is_finite() {
                engine.decoder = None;
                let clip = update.clip_factor(report.gradient_norm) as f32 / factor;
                let parameters = &mut engine.parameters;
                parameters.update(gradients, update, clip, &engine.transfer)?;
            }
            Ok(report)
        })
    }

    /// The sum of the losses of all predicted tokens that count, in nats.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if not even a part of one window fits the device's memory; the engine
    /// can still be used then. [`Error::Device`] if the device fails.
    pub(crate) fn loss(&mut self, batch: &Batch) -> Result<f64> {
        let action = "computing a loss";
        let sums = self.measure(batch, action, |losses| losses.sum().unsqueeze())?;
        Ok(sums.into_iter().map(f64::from).sum())
    }

    /// The loss of each predicted token, in nats, `[sequences · length]`; 0 if it does not
    /// count.
    ///
    /// # Errors
    /// As for [`Self::loss`].
    #[cfg(test)]
    pub(crate) fn token_losses(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.measure(batch, "computing losses", |losses| losses)
    }

    /// What `of` makes of the losses of each micro-batch, `[sequences · length, 1]`, one after the
    /// other. Retries with less memory each time it runs out.
    fn measure(
        &mut self,
        batch: &Batch,
        action: &'static str,
        of: impl Fn(Tensor<2>) -> Tensor<2>,
    ) -> Result<Vec<f32>> {
        self.evaluated(action, batch.sequences(), |engine, trade_off| {
            let mut found = Vec::new();
            for batch in batch.micro_batches(trade_off.sequences) {
                let losses = engine.passes(batch.length(), trade_off).losses(&batch);
                found.extend(engine.transfer.read(of(losses), action)?);
            }
            Ok(found)
        })
    }

    /// Runs `work` on `sequences` windows; the trade-off it gets says how many to take at a time.
    /// If memory runs out, retries with a trade-off that needs less.
    pub(super) fn evaluated<T>(
        &mut self,
        action: &'static str,
        sequences: usize,
        work: impl Fn(&mut Self, TradeOff) -> Result<T>,
    ) -> Result<T> {
        self.guarded(action, |engine| {
            let attempt = |engine: &mut Self| work(engine, engine.evaluation_trade_off);
            let reduce = |engine: &mut Self| {
                let reduced = engine.evaluation_trade_off.reduced_forward(sequences);
                engine.evaluation_trade_off = reduced?;
                reduced
            };
            match engine.within_memory(attempt, reduce) {
                Within::Done(result) => result,
                Within::OutOfMemory { reason, .. } => Err(engine.out_of_memory(action, reason)),
            }
        })
    }

    fn out_of_memory(&self, action: &'static str, reason: String) -> Error {
        Error::OutOfMemory {
            device: self.transfer.device_name().to_owned(),
            action,
            reason,
        }
    }

    /// The gradient of the mean loss, flat, and that loss.
    #[cfg(test)]
    pub(crate) fn gradient(&mut self, batch: &Batch) -> Result<(Vec<f32>, f64)> {
        let (gradients, report) = self.differentiate(batch)?;
        let gradients = match self.parameters.host() {
            Some(states) => states.gradients.clone(),
            None => self.transfer.read_all(&gradients, "reading a gradient")?,
        };
        Ok((gradients, report.loss))
    }

    /// Drops the cached text, so that another can begin.
    pub(crate) fn begin_text(&mut self) {
        self.decoder = None;
    }

    /// Tokens of the text that the decoder has read.
    #[cfg(test)]
    pub(crate) fn tokens_read(&self) -> usize {
        self.decoder.as_ref().map_or(0, Decoder::read)
    }

    /// Appends `tokens` to the text, and returns the scores of every token as the next one,
    /// `[vocabulary]`. `tokens` must not be empty, and the whole text must fit the context.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the text does not fit the device's memory. The text is dropped
    /// then, and the engine can still be used. [`Error::Device`] if the device fails.
    pub(crate) fn read_text(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let action = "computing the next token";
        self.guarded(action, |engine| {
            match engine.within_memory(|engine| engine.advance(tokens, action), |_| None) {
                Within::Done(result) => result,
                Within::OutOfMemory { reason, .. } => {
                    engine.decoder = None;
                    Err(engine.out_of_memory(action, reason))
                }
            }
        })
    }

    fn advance(&mut self, tokens: &[u32], action: &'static str) -> Result<Vec<f32>> {
        self.parameters.ensure_loaded(&self.transfer);
        let kind = matrix_type(self.parameters.precision());
        let device = self.transfer.device();
        let decoder = self.decoder.take();
        let mut decoder = decoder.unwrap_or_else(|| Decoder::new(&self.spec, kind, device));
        decoder.group = self.text_group;
        #[cfg(test)]
        assert!(
            decoder.group * (decoder.read() + tokens.len()) <= self.most_text,
            "out of memory"
        );
        let weights = self.parameters.weights();
        let logits = decoder.advance(&self.model, weights, tokens, device);
        self.decoder = Some(decoder);
        self.transfer.read(logits, action)
    }

    /// Reads fewer tokens of a text at once from now on, which takes less memory. Returns whether
    /// that is possible.
    pub(crate) fn read_fewer_at_once(&mut self) -> bool {
        let can_halve = self.text_group > LEAST_GROUP;
        if can_halve {
            self.text_group /= 2;
        }
        can_halve
    }

    /// Passes over windows of `length` tokens.
    pub(super) fn passes(&mut self, length: usize, trade_off: TradeOff) -> Passes<'_> {
        self.parameters.ensure_loaded(&self.transfer);
        if self.model.length() != length {
            self.model = Model::new(&self.spec, length, self.transfer.device());
        }
        Passes {
            model: &self.model,
            weights: self.parameters.weights(),
            transfer: &self.transfer,
            trade_off,
            #[cfg(test)]
            most_sequences: self.most_sequences,
        }
    }

    /// The gradients of a step multiplied by a factor that keeps them finite if any does, the loss
    /// and the norm without it, and the factor.
    fn scaled_gradients(&mut self, batch: &Batch) -> Result<(Vec<Tensor<2>>, StepReport, f32)> {
        let precision = self.parameters.precision();
        loop {
            let factor = self.loss_scale.factor(precision);
            let (gradients, report) = self.differentiate_within_memory(batch)?;
            let was_too_large = report.loss.is_finite() && !report.gradient_norm.is_finite();
            if precision == Precision::F16 && was_too_large && self.loss_scale.halve() {
                continue;
            }
            if report.is_finite() {
                self.loss_scale.was_finite();
            }
            return Ok((gradients, report, factor));
        }
    }

    /// The gradients of the mean loss, multiplied by the precision's factor, one for each tensor of
    /// the layout; that loss and the norm of the gradients without the factor. With states in host
    /// memory the gradients are summed up there, and no tensors are returned.
    fn differentiate(&mut self, batch: &Batch) -> Result<(Vec<Tensor<2>>, StepReport)> {
        let parameters = self.transfer.layout().parameters();
        // Loads zeros first, so that the sums below belong to the loaded states.
        self.parameters.ensure_loaded(&self.transfer);
        let host_sums = self
            .parameters
            .host_mut()
            .map(|states| states.begin_sums(parameters));
        let is_cpu = self.transfer.is_cpu();
        let factor = self.loss_scale.factor(self.parameters.precision());
        let passes = self.passes(batch.length(), self.trade_off);
        let (layout, weights) = (passes.transfer.layout(), passes.weights);
        let (gradients, loss, host_sums) = match host_sums {
            Some(mut sums) => {
                let loss = {
                    let sink = HostSums::new(layout, &mut sums);
                    passes.gradients(batch, factor, Some(&sink))?.loss
                };
                (Vec::new(), loss, Some(sums))
            }
            // The CPU's threads keep sums of their own, which are joined in a fixed order. One
            // thread alone needs no second copy.
            None if is_cpu && !passes.are_of_one_part(batch) => {
                let all = passes.gradients(batch, factor, None)?;
                let loss = all.loss.clone();
                (all.into_tensors(weights), loss, None)
            }
            None => {
                let sums = DeviceSums::new(layout);
                let loss = passes.gradients(batch, factor, Some(&sums))?.loss;
                (sums.into_tensors(weights), loss, None)
            }
        };
        if let (Some(states), Some(sums)) = (self.parameters.host_mut(), host_sums) {
            states.gradients = sums;
        }
        let (loss, gradient_norm) = match self.parameters.host() {
            Some(states) => {
                let loss = self.transfer.read_scalar(loss, "computing a loss")?;
                (f64::from(loss), sum_of_squares(&states.gradients).sqrt())
            }
            None => loss_and_norm(loss, &gradients, &self.transfer)?,
        };
        let report = StepReport {
            loss: loss / f64::from(factor),
            gradient_norm: gradient_norm / f64::from(factor),
        };
        Ok((gradients, report))
    }

    /// Differentiates, and retries with less memory each time it runs out.
    fn differentiate_within_memory(
        &mut self,
        batch: &Batch,
    ) -> Result<(Vec<Tensor<2>>, StepReport)> {
        let reduce = |engine: &mut Self| {
            engine.trade_off = engine.trade_off.reduced(batch.sequences())?;
            Some(engine.trade_off)
        };
        match self.within_memory(|engine| engine.differentiate(batch), reduce) {
            Within::Done(result) => result,
            Within::OutOfMemory {
                panic: Some(panic), ..
            } => resume_unwind(panic),
            Within::OutOfMemory { reason, .. } => Err(Error::Device {
                device: self.transfer.device_name().to_owned(),
                action: "differentiating",
                reason,
            }),
        }
    }

    /// Runs `work`, and runs it again each time it runs out of memory and `reduce` finds a
    /// trade-off that needs less. Drivers tell by a panic, or when a result is read.
    fn within_memory<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T>,
        mut reduce: impl FnMut(&mut Self) -> Option<TradeOff>,
    ) -> Within<T> {
        loop {
            let (reason, panic) = match catch_unwind(AssertUnwindSafe(|| work(self))) {
                Ok(Err(Error::Device { reason, .. })) if is_memory_trouble(&reason) => {
                    (reason, None)
                }
                Ok(result) => return Within::Done(result),
                Err(panic) => match panic_message(&*panic) {
                    reason if is_memory_trouble(&reason) => (reason, Some(panic)),
                    _ => resume_unwind(panic),
                },
            };
            let Some(trade_off) = reduce(self) else {
                return Within::OutOfMemory { reason, panic };
            };
            tracing::warn!(
                ?trade_off,
                "the device ran out of memory; retrying with less"
            );
        }
    }
}

/// How work within the device's memory ended.
enum Within<T> {
    Done(Result<T>),
    /// There was too little memory, and nothing left to trade for it.
    OutOfMemory {
        reason: String,
        panic: Option<Box<dyn Any + Send>>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_panics_gives_an_error_and_is_not_used_again() {
        let spec = ModelSpec::preset("nano").unwrap();
        let mut engine = Engine::new(&spec, Device::flex(), "a broken GPU".to_owned()).unwrap();
        let broken = engine.guarded("multiplying", |_| -> Result<()> { panic!("out of memory") });
        let message = broken.unwrap_err().to_string();
        assert!(
            message.contains("a broken GPU failed while multiplying: out of memory"),
            "{message}"
        );
        assert!(
            engine
                .weights()
                .unwrap_err()
                .to_string()
                .contains("out of memory")
        );
    }
}
