//! [`Engine`]: one model on one device, with its optimiser states and its error feedback.
//!
//! Weights stay on the device, and so do moments unless the plan keeps them in host memory. A step
//! uploads its batch once and reads two numbers back.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::{Device, FloatDType, Tensor};
use weal_kernels::update::sum_of_squares;
use weal_kernels::{Compression, pseudo_gradient};

use crate::compute_plan::{ComputePlan, Precision, StatePlacement};
use crate::device::OpenDevice;
use crate::engine::batch::Batch;
use crate::engine::decode::Decoder;
use crate::engine::error_feedback::ErrorFeedback;
use crate::engine::gradient::TradeOff;
use crate::engine::model::Model;
use crate::engine::norm::norm;
use crate::engine::optimiser::Update;
use crate::engine::parameters::{MomentVectors, Parameters};
use crate::engine::passes::Passes;
use crate::engine::sums::{DeviceSums, HostSums};
use crate::engine::transfer::{Transfer, matrix_type};
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
    transfer: Transfer,
    parameters: Parameters,
    error_feedback: ErrorFeedback,
    /// The parts of the model that are not learnt, for the window length used last.
    model: Model,
    /// What the next step trades for memory.
    pub(super) trade_off: TradeOff,
    /// Larger micro-batches run out of memory.
    #[cfg(test)]
    pub(super) most_sequences: usize,
    /// The text being generated.
    decoder: Option<Decoder>,
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
        let model = Model::new(spec, spec.context, &device);
        Ok(Self {
            spec: spec.clone(),
            transfer: Transfer::new(layout, device, device_name),
            parameters: Parameters::new(StatePlacement::Device, Precision::F32),
            error_feedback: ErrorFeedback::Zeros,
            model,
            trade_off: TradeOff::default(),
            #[cfg(test)]
            most_sequences: usize::MAX,
            decoder: None,
            fault: None,
            warmup: WarmupWatch::default(),
            failure: None,
        })
    }

    /// Runs `work` on the device. Drivers report trouble, such as running out of memory, by
    /// panicking; the guard turns that into an error. Tensors may be half updated then, so the
    /// engine refuses all further work after a device failure.
    fn guarded<T>(
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
        self.trade_off.recompute = plan.recompute;
        let has_bf16 = self.transfer.device().supports_dtype(FloatDType::BF16);
        if plan.precision == Precision::Bf16 && !has_bf16 {
            return Err(Error::Precision {
                precision: plan.precision.to_string(),
                device: self.transfer.device_name().to_owned(),
            });
        }
        let current = (self.parameters.placement(), self.parameters.precision());
        if (plan.states, plan.precision) == current {
            return Ok(());
        }
        let weights = if self.parameters.weights().is_empty() {
            None
        } else {
            Some(self.weights()?)
        };
        let moments = if self.parameters.has_moments() {
            Some(self.moments()?)
        } else {
            None
        };
        self.parameters = Parameters::new(plan.states, plan.precision);
        weights.map_or(Ok(()), |weights| self.load(&weights))?;
        moments.map_or(Ok(()), |moments| self.set_moments(&moments))
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

    /// Passes the optimiser's two moments, flat, to `look`: zeros before the first update.
    pub(crate) fn with_moments<T>(&mut self, look: impl FnOnce(&[f32], &[f32]) -> T) -> Result<T> {
        let action = "reading the moments back";
        self.guarded(action, |engine| {
            let parameters = &engine.parameters;
            parameters.with_moments(&engine.transfer, action, look)
        })
    }

    /// A copy of the optimiser's moments.
    pub(crate) fn moments(&mut self) -> Result<MomentVectors> {
        self.with_moments(|first, second| MomentVectors {
            first: first.to_vec(),
            second: second.to_vec(),
        })
    }

    /// Replaces the optimiser's moments.
    pub(crate) fn set_moments(&mut self, moments: &MomentVectors) -> Result<()> {
        self.guarded("loading moments", |engine| {
            engine.parameters.set_moments(moments, &engine.transfer);
            Ok(())
        })
    }

    /// The error feedback, flat.
    pub(crate) fn error_feedback(&mut self) -> Result<Vec<f32>> {
        let action = "reading the error feedback back";
        self.guarded(action, |engine| {
            engine.error_feedback.flat(&engine.transfer, action)
        })
    }

    /// Replaces the error feedback.
    pub(crate) fn set_error_feedback(&mut self, error: Vec<f32>) {
        self.error_feedback = ErrorFeedback::Host(error);
    }

    /// Whether the last call of [`Self::compress`] ran on a GPU.
    #[cfg(test)]
    pub(crate) fn compresses_on_device(&self) -> bool {
        matches!(self.error_feedback, ErrorFeedback::Device(_))
    }

    /// Compresses the pseudo-gradient, `base` minus the engine's weights, to the body of a
    /// contribution. What it could not send becomes the error feedback. On an error the error
    /// feedback stays as it is.
    pub(crate) fn compress(&mut self, compression: &Compression, base: &[f32]) -> Result<Vec<u8>> {
        self.guarded("compressing the pseudo-gradient", |engine| {
            let transfer = &engine.transfer;
            engine.parameters.ensure_loaded(transfer);
            if transfer.is_cpu() || engine.parameters.host().is_some() {
                return engine.compress_on_host(compression, base);
            }
            let weights = engine.parameters.masters();
            let error = &mut engine.error_feedback;
            match error.compress_on_device(transfer, compression, base, weights) {
                Err(weal_kernels::Error::Device { why }) => {
                    tracing::warn!(why, "the GPU cannot compress; falling back to the CPU");
                    engine.compress_on_host(compression, base)
                }
                done => done.map_err(Error::Compress),
            }
        })
    }

    fn compress_on_host(&mut self, compression: &Compression, base: &[f32]) -> Result<Vec<u8>> {
        let transfer = &self.transfer;
        let mut delta = match self.parameters.host_mut() {
            Some(states) => states.copy_of_weights(),
            None => self.parameters.flat(transfer, "reading the weights back")?,
        };
        pseudo_gradient(base, &mut delta).map_err(Error::Compress)?;
        let error = &mut self.error_feedback;
        let (body, spare) = error.compress_on_host(transfer, compression, delta)?;
        if let Some(states) = self.parameters.host_mut() {
            states.gradients = spare;
        }
        body.map_err(Error::Compress)
    }

    /// One inner step: forward, backward, update. If the loss or the gradient is not finite,
    /// nothing is updated.
    pub(crate) fn step(&mut self, batch: &Batch, update: &Update) -> Result<StepReport> {
        self.guarded("taking an inner step", |engine| {
            engine.fault.iter().for_each(InjectedFault::step);
            let (gradients, loss) = engine.differentiate_within_memory(batch)?;
            let gradient_norm = match engine.parameters.host() {
                Some(states) => sum_of_squares(&states.gradients).sqrt(),
                None => norm(&gradients, &engine.transfer)?,
            };
            let report = StepReport {
                loss,
                gradient_norm,
            };
            if report.is_finite() {
                engine.decoder = None;
                let clip = update.clip_factor(gradient_norm) as f32;
                let parameters = &mut engine.parameters;
                parameters.update(gradients, update, clip, &engine.transfer)?;
            }
            Ok(report)
        })
    }

    /// The sum of the losses of all predicted tokens, in nats.
    pub(crate) fn loss(&mut self, batch: &Batch) -> Result<f64> {
        let action = "computing a loss";
        self.guarded(action, |engine| {
            let losses = engine.passes(batch.length()).losses(batch);
            let sum = engine.transfer.read_scalar(losses.sum(), action)?;
            Ok(f64::from(sum))
        })
    }

    /// The loss of each predicted token, in nats, `[sequences · length]`.
    pub(crate) fn token_losses(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let action = "computing losses";
        self.guarded(action, |engine| {
            let losses = engine.passes(batch.length()).losses(batch);
            engine.transfer.read(losses, action)
        })
    }

    /// The gradient of the mean loss, flat, and that loss.
    #[cfg(test)]
    pub(crate) fn gradient(&mut self, batch: &Batch) -> Result<(Vec<f32>, f64)> {
        let (gradients, loss) = self.differentiate(batch)?;
        let gradients = match self.parameters.host() {
            Some(states) => states.gradients.clone(),
            None => self.transfer.read_all(&gradients, "reading a gradient")?,
        };
        Ok((gradients, loss))
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
    pub(crate) fn read_text(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let action = "computing the next token";
        self.guarded(action, |engine| {
            engine.parameters.ensure_loaded(&engine.transfer);
            let kind = matrix_type(engine.parameters.precision());
            let device = engine.transfer.device();
            let mut decoder = engine
                .decoder
                .take()
                .unwrap_or_else(|| Decoder::new(&engine.spec, kind, device));
            let weights = engine.parameters.weights();
            let logits = decoder.advance(&engine.model, weights, tokens, device);
            engine.decoder = Some(decoder);
            engine.transfer.read(logits, action)
        })
    }

    /// Passes over windows of `length` tokens.
    fn passes(&mut self, length: usize) -> Passes<'_> {
        self.parameters.ensure_loaded(&self.transfer);
        if self.model.length() != length {
            self.model = Model::new(&self.spec, length, self.transfer.device());
        }
        Passes {
            model: &self.model,
            weights: self.parameters.weights(),
            transfer: &self.transfer,
            trade_off: self.trade_off,
            #[cfg(test)]
            most_sequences: self.most_sequences,
        }
    }

    /// The gradients of the mean loss, one for each tensor of the layout, and that loss. With
    /// states in host memory the gradients are summed up there, and no tensors are returned.
    fn differentiate(&mut self, batch: &Batch) -> Result<(Vec<Tensor<2>>, f64)> {
        let parameters = self.transfer.layout().parameters();
        // Loads zeros first, so that the sums below belong to the loaded states.
        self.parameters.ensure_loaded(&self.transfer);
        let host_sums = self
            .parameters
            .host_mut()
            .map(|states| states.begin_sums(parameters));
        let is_cpu = self.transfer.is_cpu();
        let passes = self.passes(batch.length());
        let (layout, weights) = (passes.transfer.layout(), passes.weights);
        let (gradients, loss, host_sums) = match host_sums {
            Some(mut sums) => {
                let loss = {
                    let sink = HostSums::new(layout, &mut sums);
                    passes.gradients(batch, Some(&sink))?.loss
                };
                (Vec::new(), loss, Some(sums))
            }
            // The CPU's threads keep sums of their own, which are joined in a fixed order.
            None if is_cpu => {
                let all = passes.gradients(batch, None)?;
                let loss = all.loss.clone();
                (all.into_tensors(weights), loss, None)
            }
            None => {
                let sums = DeviceSums::new(layout);
                let loss = passes.gradients(batch, Some(&sums))?.loss;
                (sums.into_tensors(weights), loss, None)
            }
        };
        if let (Some(states), Some(sums)) = (self.parameters.host_mut(), host_sums) {
            states.gradients = sums;
        }
        let loss = self.transfer.read_scalar(loss, "computing a loss")?;
        Ok((gradients, f64::from(loss)))
    }

    /// Differentiates, and retries with less memory each time it runs out.
    fn differentiate_within_memory(&mut self, batch: &Batch) -> Result<(Vec<Tensor<2>>, f64)> {
        loop {
            let panic = match catch_unwind(AssertUnwindSafe(|| self.differentiate(batch))) {
                Ok(result) => return result,
                Err(panic) => panic,
            };
            let reduced = self
                .trade_off
                .reduced(batch.sequences())
                .filter(|_| is_out_of_memory(&panic_message(&*panic)));
            match reduced {
                Some(trade_off) => {
                    tracing::warn!(
                        ?trade_off,
                        "the device ran out of memory; retrying the step with less"
                    );
                    self.trade_off = trade_off;
                }
                None => resume_unwind(panic),
            }
        }
    }
}

/// Whether a driver's message is about memory: `OutOfMemory`, `out of memory`,
/// `memory allocation of … failed`.
fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    ["outofmemory", "out of memory", "memory allocation"]
        .iter()
        .any(|sign| message.contains(sign))
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
