//! The engine: burn tensors with automatic differentiation, on the processor through flex and on
//! GPUs through wgpu.
//!
//! Weights stay on the device as one tensor each, and so do moments unless they are kept in host
//! memory; a step uploads its batch once and reads back two numbers. Gains of norms are
//! `[1, width]`, so that every tensor has two dimensions.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use weal_kernels::Layout;
use weal_kernels::update::sum_of_squares;

use crate::compute::{Place, Precision};
use crate::engine::compress::ErrorFeedback;
use crate::engine::decode::Decoder;
use crate::engine::fused;
use crate::engine::gradient::{Gradients, Part, Thrift, Way};
use crate::engine::model::Model;
use crate::engine::states::{States, matrix_type};
use crate::engine::sums::{Accumulate, DeviceSums, HostSums};
use crate::engine::{Batch, StepReport, Update};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::kernel_warmup::{FirstUse, Teller};
use crate::spec::ModelSpec;

/// The engine; see the module.
pub(crate) struct Engine {
    spec: ModelSpec,
    pub(super) layout: Layout,
    pub(super) device: Device,
    pub(super) device_name: String,
    /// The weights that are computed with; empty before any were taken over.
    pub(super) weights: Vec<Tensor<2>>,
    /// What matrices are multiplied in.
    pub(super) precision: Precision,
    pub(super) states: States,
    /// What could not be sent yet.
    pub(super) error: ErrorFeedback,
    /// What is not learnt, for the last length of window that was asked for.
    model: Model,
    /// What time is given for memory.
    pub(super) thrift: Thrift,
    /// A batch of more runs out of memory.
    #[cfg(test)]
    pub(super) most_sequences: usize,
    /// The text that is being read.
    pub(super) decoder: Option<Decoder>,
    /// A failure to come, for tests.
    fault: Option<Fault>,
    /// What is told of kernels that are not ready.
    first_use: FirstUse,
    /// Why the device cannot be used any more.
    failure: Option<String>,
}

impl Engine {
    /// An engine for `spec` on `device`, with weights and moments of zero.
    pub fn new(spec: &ModelSpec, device: Device, device_name: String) -> Result<Self> {
        let layout = spec.layout()?;
        let model = Model::new(spec, spec.context, &device);
        Ok(Self {
            spec: spec.clone(),
            layout,
            device,
            device_name,
            weights: Vec::new(),
            precision: Precision::F32,
            states: States::new(Place::Device),
            error: ErrorFeedback::Zeros,
            model,
            thrift: Thrift::default(),
            #[cfg(test)]
            most_sequences: usize::MAX,
            decoder: None,
            fault: None,
            first_use: FirstUse::default(),
            failure: None,
        })
    }

    /// Fails when `fault` says so.
    pub fn failing(self, fault: Option<Fault>) -> Self {
        Self { fault, ..self }
    }

    /// Tells when kernels have to be made ready.
    pub fn telling(self, teller: Option<Teller>) -> Self {
        Self {
            first_use: FirstUse::new(teller),
            ..self
        }
    }

    /// Runs `work` on the device. Drivers report trouble, such as memory that runs out, by
    /// panicking somewhere below; that becomes an error, and the engine, whose tensors may be half
    /// done, refuses all further work.
    pub(super) fn guarded<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if self.failure.is_none() {
            let mut first_use = mem::take(&mut self.first_use);
            let done = first_use.watch(action, || catch_unwind(AssertUnwindSafe(|| work(self))));
            self.first_use = first_use;
            match done {
                Ok(result) => return result,
                Err(panic) => self.failure = Some(panic_message(&*panic)),
            }
        }
        let reason = self.failure.clone().unwrap_or_default();
        Err(Error::Device {
            device: self.device_name.clone(),
            action,
            reason,
        })
    }

    fn prepare(&mut self, length: usize) {
        self.ensure_weights();
        if self.model.length() != length {
            self.model = Model::new(&self.spec, length, &self.device);
        }
    }

    fn upload(&self, tokens: impl Iterator<Item = u32>) -> Tensor<1, Int> {
        let tokens: Vec<i32> = tokens.map(|token| token as i32).collect();
        let length = tokens.len();
        Tensor::from_data(TensorData::new(tokens, [length]), &self.device)
    }

    /// The loss of each predicted token, `[sequences · length, 1]`.
    fn losses(&mut self, batch: &Batch) -> Tensor<2> {
        self.prepare(batch.length());
        let rows = self.model.rows_at_once(&self.thrift);
        let losses = |model: &Model, weights: &[Tensor<2>], part: &Part| {
            model.losses(weights, part.inputs.clone(), part.targets.clone(), rows)
        };
        Tensor::cat(self.spread(batch, 1.0, losses), 0)
    }

    /// The gradients of the mean loss, one for each tensor of the layout, and that loss. Where
    /// states are in host memory the gradients are added up there, and there are no tensors.
    fn differentiate(&mut self, batch: &Batch) -> Result<(Vec<Tensor<2>>, f64)> {
        self.prepare(batch.length());
        let (gradients, loss) = match &mut self.states {
            // The processor's threads each keep their own sums, and join them in the same order
            // always.
            States::Device(_) if self.device == Device::flex() => {
                let all = self.gradients(batch, None)?;
                let loss = all.loss.clone();
                (all.into_tensors(&self.weights), loss)
            }
            States::Device(_) => {
                let sums = DeviceSums::new(&self.layout);
                let loss = self.gradients(batch, Some(&sums))?.loss;
                (sums.into_tensors(&self.weights), loss)
            }
            States::Host(states) => {
                let mut flat = states.begin_sums(self.layout.parameters());
                let loss = self
                    .gradients(batch, Some(&HostSums::new(&self.layout, &mut flat)))?
                    .loss;
                if let States::Host(states) = &mut self.states {
                    states.gradients = flat;
                }
                (Vec::new(), loss)
            }
        };
        Ok((
            gradients,
            f64::from(self.read_scalar(loss, "computed a loss")?),
        ))
    }

    fn gradients<'a>(
        &self,
        batch: &Batch,
        elsewhere: Option<&'a dyn Accumulate>,
    ) -> Result<Gradients<'a>> {
        let scale = 1.0 / batch.predictions() as f32;
        let way = Way {
            thrift: self.thrift,
            elsewhere,
        };
        let groups = batch.parts(self.thrift.sequences);
        let all = groups
            .filter_map(|group| self.gradients_at_once(&group, scale, &way))
            .reduce(Gradients::join);
        all.ok_or(Error::Inner {
            key: "batch",
            value: "0".into(),
            accepted: "at least 1 is needed",
        })
    }

    fn gradients_at_once<'a>(
        &self,
        group: &Batch,
        scale: f32,
        way: &Way<'a>,
    ) -> Option<Gradients<'a>> {
        #[cfg(test)]
        assert!(
            group.sequences() <= self.most_sequences,
            "out of memory, for a test"
        );
        let found = self.spread(group, scale, |model, weights, part| {
            model.gradients(weights, part, way)
        });
        found.into_iter().reduce(Gradients::join)
    }

    /// Does some work for a batch. Each of the processor's threads takes some of its sequences from
    /// one end of the model to the other, since most of what is computed is too small to be shared
    /// out itself; a GPU takes all at once.
    fn spread<T: Send>(
        &self,
        batch: &Batch,
        scale: f32,
        work: impl Fn(&Model, &[Tensor<2>], &Part) -> T + Send + Sync,
    ) -> Vec<T> {
        let threads = if self.device == Device::flex() {
            rayon::current_num_threads()
        } else {
            1
        };
        let upload = |part: Batch| {
            let part = Part {
                inputs: self.upload(part.inputs()),
                targets: self.upload(part.targets()),
                scale,
            };
            (self.model.clone(), self.weights.clone(), part)
        };
        let parts: Vec<_> = batch
            .parts(batch.sequences().div_ceil(threads))
            .map(upload)
            .collect();
        let one =
            |(model, weights, part): (Model, Vec<Tensor<2>>, Part)| work(&model, &weights, &part);
        if parts.len() == 1 {
            parts.into_iter().map(one).collect()
        } else {
            parts.into_par_iter().map(one).collect()
        }
    }

    /// The same; where memory runs out, with less of it.
    fn differentiate_within_memory(&mut self, batch: &Batch) -> Result<(Vec<Tensor<2>>, f64)> {
        loop {
            let panic = match catch_unwind(AssertUnwindSafe(|| self.differentiate(batch))) {
                Ok(result) => return result,
                Err(panic) => panic,
            };
            match self
                .thrift
                .reduced(batch.sequences())
                .filter(|_| is_out_of_memory(&panic_message(&*panic)))
            {
                Some(thrift) => {
                    tracing::warn!(?thrift, "memory ran out; the step is tried again with less");
                    self.thrift = thrift;
                }
                None => resume_unwind(panic),
            }
        }
    }

    /// The global norm of gradients: of these, or of those added up in host memory.
    fn gradient_norm(&self, gradients: &[Tensor<2>]) -> Result<f64> {
        match &self.states {
            States::Host(states) => Ok(sum_of_squares(&states.gradients).sqrt()),
            States::Device(_) => self.norm(gradients),
        }
    }

    /// The norm of tensors in f32 together.
    fn norm(&self, tensors: &[Tensor<2>]) -> Result<f64> {
        if self.device == Device::flex() {
            let squares: Vec<f64> = tensors
                .par_iter()
                .cloned()
                .map(fused::sum_of_squares)
                .collect();
            return Ok(squares.iter().sum::<f64>().sqrt());
        }
        let squares = tensors
            .iter()
            .map(|tensor| tensor.clone().square().sum())
            .collect();
        let norm = Tensor::<1>::cat(squares, 0).sum().sqrt();
        Ok(f64::from(self.read_scalar(norm, "measured a norm")?))
    }

    fn update(&mut self, gradients: Vec<Tensor<2>>, update: &Update, gradient_norm: f64) {
        self.decoder = None;
        let clip = update.clip_factor(gradient_norm) as f32;
        match self.states {
            States::Device(_) => self.update_on_device(gradients, update, clip),
            States::Host(_) => self.update_on_host(update, clip),
        }
    }

    pub(super) fn join<const D: usize>(
        &self,
        tensors: &[Tensor<D>],
        action: &'static str,
    ) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.layout.parameters());
        for tensor in tensors {
            values.extend(self.read(tensor.clone(), action)?);
        }
        Ok(values)
    }

    fn read<const D: usize>(&self, tensor: Tensor<D>, action: &'static str) -> Result<Vec<f32>> {
        tensor
            .try_into_vec_as::<f32>()
            .map_err(|error| Error::Device {
                device: self.device_name.clone(),
                action,
                reason: error.to_string(),
            })
    }

    fn read_scalar(&self, tensor: Tensor<1>, action: &'static str) -> Result<f32> {
        Ok(self
            .read(tensor, action)?
            .first()
            .copied()
            .unwrap_or(f32::NAN))
    }
}

/// The shape of a tensor of the layout in two dimensions.
pub(super) fn shape(layout: &Layout, tensor: usize) -> [usize; 2] {
    match layout.tensors()[tensor].shape[..] {
        [rows, columns] => [rows, columns],
        _ => [1, layout.range(tensor).len()],
    }
}

/// Whether a driver's complaint is about memory: `OutOfMemory`, `out of memory`,
/// `memory allocation of … failed`.
fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    ["outofmemory", "out of memory", "memory allocation"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it gave no reason")
        .to_owned()
}

impl Engine {
    /// Whether the weights have a norm: none of them is beyond numbers, or near there.
    pub fn is_sound(&mut self) -> Result<bool> {
        self.guarded("looked at the weights", |engine| {
            let norm = match &engine.states {
                States::Host(states) => sum_of_squares(&states.masters).sqrt(),
                States::Device(_) => engine.norm(engine.learnt_weights())?,
            };
            Ok(norm.is_finite())
        })
    }

    /// One inner step: forward, backward, update. Nothing is updated where the loss or the gradient
    /// is not finite.
    pub fn step(&mut self, batch: &Batch, update: &Update) -> Result<StepReport> {
        self.guarded("took an inner step", |engine| {
            engine.fault.iter().for_each(Fault::step);
            let (gradients, loss) = engine.differentiate_within_memory(batch)?;
            let report = StepReport {
                loss,
                gradient_norm: engine.gradient_norm(&gradients)?,
            };
            if report.is_finite() {
                engine.update(gradients, update, report.gradient_norm);
            }
            Ok(report)
        })
    }

    /// The sum of the losses of all predicted tokens, in nats.
    pub fn loss(&mut self, batch: &Batch) -> Result<f64> {
        let action = "computed a loss";
        self.guarded(action, |engine| {
            let losses = engine.losses(batch);
            Ok(f64::from(engine.read_scalar(losses.sum(), action)?))
        })
    }

    /// The loss of each predicted token, in nats, `[sequences · length]`.
    pub fn token_losses(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let action = "computed losses";
        self.guarded(action, |engine| {
            let losses = engine.losses(batch);
            engine.read(losses, action)
        })
    }

    /// The gradient of the mean loss, flat, and that loss.
    #[cfg(test)]
    pub fn gradient(&mut self, batch: &Batch) -> Result<(Vec<f32>, f64)> {
        let (gradients, loss) = self.differentiate(batch)?;
        let gradients = match &self.states {
            States::Host(states) => states.gradients.clone(),
            States::Device(_) => self.join(&gradients, "read a gradient back")?,
        };
        Ok((gradients, loss))
    }

    /// Forgets the text that was read, so that another can begin.
    pub fn begin_text(&mut self) {
        self.decoder = None;
    }

    /// Tokens of the text that were read.
    #[cfg(test)]
    pub fn tokens_read(&self) -> usize {
        self.decoder.as_ref().map_or(0, Decoder::read)
    }

    /// Reads the text on, and gives the scores of every token as the next one, `[vocabulary]`.
    /// `tokens` are at least one, and with those read before at most `context`.
    pub fn read_text(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let action = "computed the next token";
        self.guarded(action, |engine| {
            engine.ensure_weights();
            let kind = matrix_type(engine.precision);
            let mut decoder = engine
                .decoder
                .take()
                .unwrap_or_else(|| Decoder::new(&engine.spec, kind, &engine.device));
            let logits = decoder.advance(&engine.model, &engine.weights, tokens, &engine.device);
            engine.decoder = Some(decoder);
            engine.read(logits, action)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_panics_gives_an_error_and_is_not_used_again() {
        let spec = ModelSpec::preset("nano").unwrap();
        let mut engine = Engine::new(&spec, Device::flex(), "a broken GPU".to_owned()).unwrap();
        let broken = engine.guarded("multiplied", |_| -> Result<()> { panic!("out of memory") });
        let message = broken.unwrap_err().to_string();
        assert!(
            message.contains("a broken GPU failed while it multiplied: out of memory"),
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
