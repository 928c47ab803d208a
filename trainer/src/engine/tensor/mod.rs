//! The engine for any device of the burn framework: GPUs through wgpu, and the processor as a reference.
//!
//! Weights and moments stay on the device as one tensor each; a step uploads its batch once and reads back two
//! numbers. Gains of norms are `[1, width]`, so that every tensor has two dimensions.

mod model;

use std::mem;

use burn::tensor::{Device, Int, Tensor, TensorData};
use weal_kernels::Layout;

use self::model::Model;
use crate::engine::{ADAM_EPSILON, Batch, Engine, MomentVectors, StepReport, Update};
use crate::error::{Error, Result};
use crate::spec::ModelSpec;

/// The engine; see the module.
pub(crate) struct TensorEngine {
    spec: ModelSpec,
    layout: Layout,
    device: Device,
    device_name: String,
    weights: Vec<Tensor<2>>,
    first: Vec<Tensor<2>>,
    second: Vec<Tensor<2>>,
    /// What is not learnt, for the last length of window that was asked for.
    model: Model,
}

impl TensorEngine {
    /// An engine for `spec` on `device`, with weights and moments of zero.
    pub fn new(spec: &ModelSpec, device: Device, device_name: String) -> Result<Self> {
        let layout = spec.layout()?;
        let zeros = |_| -> Vec<Tensor<2>> {
            (0..layout.tensors().len()).map(|tensor| Tensor::zeros(shape(&layout, tensor), &device)).collect()
        };
        let [weights, first, second] = [(); 3].map(zeros);
        let model = Model::new(spec, spec.context, &device);
        Ok(Self { spec: spec.clone(), layout, device, device_name, weights, first, second, model })
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

    /// The gradients of the mean loss, one for each tensor of the layout, and that loss.
    fn differentiate(&mut self, batch: &Batch) -> Result<(Vec<Tensor<2>>, f64)> {
        self.prepare(batch.length());
        let leaves: Vec<Tensor<2>> = self.weights.iter().map(|weight| weight.clone().autodiff().require_grad()).collect();
        let (inputs, targets) = (self.upload(batch.inputs()), self.upload(batch.targets()));
        let loss = self.model.loss(&leaves, inputs, targets).div_scalar(batch.predictions() as f32);
        let mut gradients = loss.backward();
        let of_leaf = |leaf: &Tensor<2>| leaf.grad_remove(&mut gradients).unwrap_or_else(|| leaf.clone().inner().zeros_like());
        let gradients = leaves.iter().map(of_leaf).collect();
        Ok((gradients, f64::from(self.read_scalar(loss.inner(), "computed a loss")?)))
    }

    fn gradient_norm(&self, gradients: &[Tensor<2>]) -> Result<f64> {
        let squares = gradients.iter().map(|gradient| gradient.clone().square().sum()).collect();
        let norm = Tensor::<1>::cat(squares, 0).sum().sqrt();
        Ok(f64::from(self.read_scalar(norm, "measured a gradient")?))
    }

    fn update(&mut self, gradients: Vec<Tensor<2>>, update: &Update, gradient_norm: f64) {
        let clip = update.clip_factor(gradient_norm) as f32;
        let rate = (update.learning_rate * update.correction1()) as f32;
        let (beta1, beta2) = (update.beta1 as f32, update.beta2 as f32);
        let moments = mem::take(&mut self.first).into_iter().zip(mem::take(&mut self.second));
        let tensors = mem::take(&mut self.weights).into_iter().zip(gradients).zip(moments);
        for (spec, ((weight, gradient), (first, second))) in self.layout.tensors().iter().zip(tensors) {
            let keep = if spec.shape.len() == 2 { 1.0 - update.learning_rate * update.decay } else { 1.0 };
            let gradient = gradient.mul_scalar(clip);
            let first = first.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
            let second = second.mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2);
            let root = second.clone().mul_scalar(update.correction2() as f32).sqrt().add_scalar(ADAM_EPSILON);
            self.weights.push(weight.mul_scalar(keep as f32) - first.clone().mul_scalar(rate) / root);
            self.first.push(first);
            self.second.push(second);
        }
    }

    fn from_flat(&self, values: &[f32]) -> Vec<Tensor<2>> {
        (0..self.layout.tensors().len())
            .map(|tensor| {
                let data = TensorData::new(values[self.layout.range(tensor)].to_vec(), shape(&self.layout, tensor));
                Tensor::from_data(data, &self.device)
            })
            .collect()
    }

    fn to_flat(&self, tensors: &[Tensor<2>], action: &'static str) -> Result<Vec<f32>> {
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

impl Engine for TensorEngine {
    fn load(&mut self, weights: &[f32]) -> Result<()> {
        self.weights = self.from_flat(weights);
        Ok(())
    }

    fn weights(&mut self) -> Result<Vec<f32>> {
        self.to_flat(&self.weights, "read the weights back")
    }

    fn step(&mut self, batch: &Batch, update: &Update) -> Result<StepReport> {
        let (gradients, loss) = self.differentiate(batch)?;
        let report = StepReport { loss, gradient_norm: self.gradient_norm(&gradients)? };
        if report.is_finite() {
            self.update(gradients, update, report.gradient_norm);
        }
        Ok(report)
    }

    fn loss(&mut self, batch: &Batch) -> Result<f64> {
        self.prepare(batch.length());
        let (inputs, targets) = (self.upload(batch.inputs()), self.upload(batch.targets()));
        let loss = self.model.loss(&self.weights, inputs, targets);
        Ok(f64::from(self.read_scalar(loss, "computed a loss")?))
    }

    #[cfg(test)]
    fn gradient(&mut self, batch: &Batch) -> Result<(Vec<f32>, f64)> {
        let (gradients, loss) = self.differentiate(batch)?;
        Ok((self.to_flat(&gradients, "read a gradient back")?, loss))
    }

    fn next_token_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        // Windows of every length would each compile kernels of their own: pad at the end, where the mask hides it.
        self.prepare(self.spec.context);
        let padding = std::iter::repeat_n(0, self.spec.context - tokens.len());
        let inputs = self.upload(tokens.iter().copied().chain(padding));
        let stream = self.model.stream(&self.weights, inputs).narrow(0, tokens.len() - 1, 1);
        self.read(self.model.logits(&self.weights, stream), "computed the next token")
    }

    fn moments(&mut self) -> Result<MomentVectors> {
        let action = "read the moments back";
        Ok(MomentVectors { first: self.to_flat(&self.first, action)?, second: self.to_flat(&self.second, action)? })
    }

    fn set_moments(&mut self, moments: &MomentVectors) -> Result<()> {
        self.first = self.from_flat(&moments.first);
        self.second = self.from_flat(&moments.second);
        Ok(())
    }
}
