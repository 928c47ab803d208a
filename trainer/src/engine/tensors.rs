//! The engine: burn tensors with automatic differentiation, on the processor through flex and on GPUs through wgpu.
//!
//! Weights and moments stay on the device as one tensor each; a step uploads its batch once and reads back two
//! numbers. Gains of norms are `[1, width]`, so that every tensor has two dimensions.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use weal_kernels::{Layout, TensorSpec};

use crate::engine::compress::ErrorFeedback;
use crate::engine::decode::Decoder;
use crate::engine::gradient::{Gradients, Part, Thrift};
use crate::engine::model::Model;
use crate::engine::optimiser::Learnt;
use crate::engine::{Batch, MomentVectors, StepReport, Update};
use crate::error::{Error, Result};
use crate::preparing::{FirstUse, Teller};
use crate::spec::ModelSpec;

/// The engine; see the module.
pub(crate) struct Engine {
    spec: ModelSpec,
    pub(super) layout: Layout,
    pub(super) device: Device,
    device_name: String,
    pub(super) weights: Vec<Tensor<2>>,
    first: Vec<Tensor<2>>,
    second: Vec<Tensor<2>>,
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
    decoder: Option<Decoder>,
    /// What is told of kernels that are not ready.
    first_use: FirstUse,
    /// Why the device cannot be used any more.
    failure: Option<String>,
}

impl Engine {
    /// An engine for `spec` on `device`, with weights and moments of zero.
    pub fn new(spec: &ModelSpec, device: Device, device_name: String) -> Result<Self> {
        let layout = spec.layout()?;
        let zeros = |_| -> Vec<Tensor<2>> {
            (0..layout.tensors().len()).map(|tensor| Tensor::zeros(shape(&layout, tensor), &device)).collect()
        };
        let [weights, first, second] = [(); 3].map(zeros);
        let model = Model::new(spec, spec.context, &device);
        Ok(Self {
            spec: spec.clone(),
            layout,
            device,
            device_name,
            weights,
            first,
            second,
            error: ErrorFeedback::Zeros,
            model,
            thrift: Thrift::default(),
            #[cfg(test)]
            most_sequences: usize::MAX,
            decoder: None,
            first_use: FirstUse::default(),
            failure: None,
        })
    }

    /// Tells when kernels have to be made ready.
    pub fn telling(self, teller: Option<Teller>) -> Self {
        Self { first_use: FirstUse::new(teller), ..self }
    }

    /// Runs `work` on the device. Drivers report trouble, such as memory that runs out, by panicking somewhere below;
    /// that becomes an error, and the engine, whose tensors may be half done, refuses all further work.
    pub(super) fn guarded<T>(&mut self, action: &'static str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
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
        Err(Error::Device { device: self.device_name.clone(), action, reason })
    }

    fn prepare(&mut self, length: usize) {
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

    /// The gradients of the mean loss, one for each tensor of the layout, and that loss.
    fn differentiate(&mut self, batch: &Batch) -> Result<(Vec<Tensor<2>>, f64)> {
        self.prepare(batch.length());
        let scale = 1.0 / batch.predictions() as f32;
        let groups = batch.parts(self.thrift.sequences);
        let all = groups.filter_map(|group| self.gradients_at_once(&group, scale)).reduce(Gradients::join);
        let all = all.ok_or(Error::Inner { key: "batch", value: "0".into(), accepted: "at least 1 is needed" })?;
        let loss = self.read_scalar(all.loss.clone(), "computed a loss")?;
        Ok((all.into_tensors(&self.weights), f64::from(loss)))
    }

    fn gradients_at_once(&self, group: &Batch, scale: f32) -> Option<Gradients> {
        #[cfg(test)]
        assert!(group.sequences() <= self.most_sequences, "out of memory, for a test");
        let thrift = self.thrift;
        let found = self.spread(group, scale, |model, weights, part| model.gradients(weights, part, &thrift));
        found.into_iter().reduce(Gradients::join)
    }

    /// Does some work for a batch. Each of the processor's threads takes some of its sequences from one end of the model
    /// to the other, since most of what is computed is too small to be shared out itself; a GPU takes all at once.
    fn spread<T: Send>(
        &self,
        batch: &Batch,
        scale: f32,
        work: impl Fn(&Model, &[Tensor<2>], &Part) -> T + Send + Sync,
    ) -> Vec<T> {
        let threads = if self.device == Device::flex() { rayon::current_num_threads() } else { 1 };
        let upload = |part: Batch| {
            let part = Part { inputs: self.upload(part.inputs()), targets: self.upload(part.targets()), scale };
            (self.model.clone(), self.weights.clone(), part)
        };
        let parts: Vec<_> = batch.parts(batch.sequences().div_ceil(threads)).map(upload).collect();
        let one = |(model, weights, part): (Model, Vec<Tensor<2>>, Part)| work(&model, &weights, &part);
        if parts.len() == 1 { parts.into_iter().map(one).collect() } else { parts.into_par_iter().map(one).collect() }
    }

    /// The same; where memory runs out, with less of it.
    fn differentiate_within_memory(&mut self, batch: &Batch) -> Result<(Vec<Tensor<2>>, f64)> {
        loop {
            let panic = match catch_unwind(AssertUnwindSafe(|| self.differentiate(batch))) {
                Ok(result) => return result,
                Err(panic) => panic,
            };
            match self.thrift.reduced(batch.sequences()).filter(|_| is_out_of_memory(&panic_message(&*panic))) {
                Some(thrift) => {
                    tracing::warn!(?thrift, "memory ran out; the step is tried again with less");
                    self.thrift = thrift;
                }
                None => resume_unwind(panic),
            }
        }
    }

    fn gradient_norm(&self, gradients: &[Tensor<2>]) -> Result<f64> {
        let squares = gradients.iter().map(|gradient| gradient.clone().square().sum()).collect();
        let norm = Tensor::<1>::cat(squares, 0).sum().sqrt();
        Ok(f64::from(self.read_scalar(norm, "measured a gradient")?))
    }

    fn update(&mut self, gradients: Vec<Tensor<2>>, update: &Update, gradient_norm: f64) {
        self.decoder = None;
        let clip = update.clip_factor(gradient_norm) as f32;
        let moments = mem::take(&mut self.first).into_iter().zip(mem::take(&mut self.second));
        let tensors = mem::take(&mut self.weights).into_iter().zip(gradients).zip(moments);
        let work: Vec<_> = self.layout.tensors().iter().zip(tensors).collect();
        let step = |(spec, ((weight, gradient), (first, second))): (&TensorSpec, _)| {
            let gradient: Tensor<2> = gradient;
            Learnt { weight, first, second }.update(spec, gradient.mul_scalar(clip), update)
        };
        // On the processor tensors are shared out among the threads; a GPU is given its work by one.
        let learnt: Vec<Learnt> = match self.device == Device::flex() {
            true => work.into_par_iter().map(step).collect(),
            false => work.into_iter().map(step).collect(),
        };
        for Learnt { weight, first, second } in learnt {
            self.weights.push(weight);
            self.first.push(first);
            self.second.push(second);
        }
    }

    fn split(&self, values: &[f32]) -> Vec<Tensor<2>> {
        (0..self.layout.tensors().len())
            .map(|tensor| {
                let data = TensorData::new(values[self.layout.range(tensor)].to_vec(), shape(&self.layout, tensor));
                Tensor::from_data(data, &self.device)
            })
            .collect()
    }

    pub(super) fn join<const D: usize>(&self, tensors: &[Tensor<D>], action: &'static str) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.layout.parameters());
        for tensor in tensors {
            values.extend(self.read(tensor.clone(), action)?);
        }
        Ok(values)
    }

    fn read<const D: usize>(&self, tensor: Tensor<D>, action: &'static str) -> Result<Vec<f32>> {
        tensor.try_into_vec_as::<f32>().map_err(|error| Error::Device {
            device: self.device_name.clone(),
            action,
            reason: error.to_string(),
        })
    }

    fn read_scalar(&self, tensor: Tensor<1>, action: &'static str) -> Result<f32> {
        Ok(self.read(tensor, action)?.first().copied().unwrap_or(f32::NAN))
    }
}

/// The shape of a tensor of the layout in two dimensions.
fn shape(layout: &Layout, tensor: usize) -> [usize; 2] {
    match layout.tensors()[tensor].shape[..] {
        [rows, columns] => [rows, columns],
        _ => [1, layout.range(tensor).len()],
    }
}

/// Whether a driver's complaint is about memory: `OutOfMemory`, `out of memory`, `memory allocation of … failed`.
fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    ["outofmemory", "out of memory", "memory allocation"].iter().any(|sign| message.contains(sign))
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave no reason").to_owned()
}

impl Engine {
    /// Takes over a flat vector of weights.
    pub fn load(&mut self, weights: &[f32]) -> Result<()> {
        self.guarded("took over weights", |engine| {
            engine.weights = engine.split(weights);
            engine.decoder = None;
            Ok(())
        })
    }

    /// The weights, flat.
    pub fn weights(&mut self) -> Result<Vec<f32>> {
        let action = "read the weights back";
        self.guarded(action, |engine| engine.join(&engine.weights, action))
    }

    /// One inner step: forward, backward, update. Nothing is updated where the loss or the gradient is not finite.
    pub fn step(&mut self, batch: &Batch, update: &Update) -> Result<StepReport> {
        self.guarded("took an inner step", |engine| {
            let (gradients, loss) = engine.differentiate_within_memory(batch)?;
            let report = StepReport { loss, gradient_norm: engine.gradient_norm(&gradients)? };
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
        Ok((self.join(&gradients, "read a gradient back")?, loss))
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

    /// Reads the text on, and gives the scores of every token as the next one, `[vocabulary]`. `tokens` are at least one,
    /// and with those read before at most `context`.
    pub fn read_text(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let action = "computed the next token";
        self.guarded(action, |engine| {
            let mut decoder = engine.decoder.take().unwrap_or_else(|| Decoder::new(&engine.spec, &engine.device));
            let logits = decoder.advance(&engine.model, &engine.weights, tokens, &engine.device);
            engine.decoder = Some(decoder);
            engine.read(logits, action)
        })
    }

    /// Gives time for memory: at most so many sequences are differentiated at once, and with `recompute` blocks are
    /// computed again on the way back.
    pub fn spare_memory(&mut self, sequences: usize, recompute: bool) {
        self.thrift = Thrift { sequences, recompute, ..self.thrift };
    }

    /// The optimiser's moments.
    pub fn moments(&mut self) -> Result<MomentVectors> {
        let action = "read the moments back";
        self.guarded(action, |engine| {
            let (first, second) = (engine.join(&engine.first, action)?, engine.join(&engine.second, action)?);
            Ok(MomentVectors { first, second })
        })
    }

    /// Takes over moments.
    pub fn set_moments(&mut self, moments: &MomentVectors) -> Result<()> {
        self.guarded("took over moments", |engine| {
            engine.first = engine.split(&moments.first);
            engine.second = engine.split(&moments.second);
            Ok(())
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
        assert!(message.contains("a broken GPU failed while it multiplied: out of memory"), "{message}");
        assert!(engine.weights().unwrap_err().to_string().contains("out of memory"));
    }
}
