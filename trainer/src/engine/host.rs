//! States in the machine's memory: the device holds the weights that it computes with, and one
//! block's gradients at a time.
//!
//! As soon as the gradient of a tensor is there, it is added up here, in f32; after the last of a
//! step the processor updates weights and moments with all its threads, and each tensor of new
//! weights goes back to the device.

use std::mem;

use burn::tensor::{DType, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;
use weal_kernels::update;

use crate::compute::Precision;
use crate::engine::Update;
use crate::engine::optimiser::{is_within, orthogonal};
use crate::engine::states::{States, compute_type};
use crate::engine::tensors::{Engine, shape};

/// Flat vectors in the layout's order; empty before they are needed.
#[derive(Default)]
pub(super) struct HostStates {
    /// The weights, in f32.
    pub masters: Vec<f32>,
    /// The sums of the step's gradients.
    pub gradients: Vec<f32>,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl HostStates {
    pub fn set_weights(&mut self, weights: &[f32]) {
        self.masters = copied(mem::take(&mut self.masters), weights);
    }

    /// The weights, in the memory of the sums of gradients.
    pub fn copy_of_weights(&mut self) -> Vec<f32> {
        copied(mem::take(&mut self.gradients), &self.masters)
    }

    /// The sums, taken out and set to zero.
    pub fn begin_sums(&mut self, parameters: usize) -> Vec<f32> {
        let mut sums = mem::take(&mut self.gradients);
        if sums.len() == parameters {
            sums.par_chunks_mut(1 << 16).for_each(|part| part.fill(0.0));
        } else {
            sums = vec![0.0; parameters];
        }
        sums
    }
}

/// A copy of values in the memory of other values.
fn copied(mut memory: Vec<f32>, values: &[f32]) -> Vec<f32> {
    if memory.len() != values.len() {
        memory = vec![0.0; values.len()];
    }
    let parts = memory
        .par_chunks_mut(1 << 16)
        .zip(values.par_chunks(1 << 16));
    parts.for_each(|(to, from)| to.copy_from_slice(from));
    memory
}

impl Engine {
    /// One update of what lies in the machine's memory, by the gradients that were added up there.
    pub(super) fn update_on_host(&mut self, update: &Update, clip: f32) {
        let States::Host(states) = &mut self.states else {
            return;
        };
        // Out of the engine, which has to lend itself to the uploads.
        let mut states = mem::take(states);
        if states.first.is_empty() {
            states.first = vec![0.0; states.masters.len()];
            states.second = vec![0.0; states.masters.len()];
        }
        for index in 0..self.layout.tensors().len() {
            let (spec, range) = (&self.layout.tensors()[index], self.layout.range(index));
            let (weights, first) = (
                &mut states.masters[range.clone()],
                &mut states.first[range.clone()],
            );
            let gradients = &mut states.gradients[range.clone()];
            match update.muon {
                Some(memory) if is_within(spec) => {
                    update::nesterov(first, gradients, memory as f32, clip);
                    let steps = self.orthogonal(index, gradients);
                    update::step(weights, &steps, update.kept(spec), update.muon_rate(spec));
                }
                _ => update::adamw(
                    weights,
                    first,
                    &mut states.second[range],
                    gradients,
                    &update.adamw(spec, clip),
                ),
            }
            // What is replaced goes first: there may not be room for both.
            self.weights[index] = Tensor::zeros([1, 1], &self.device);
            self.weights[index] = self.upload_tensor(index, weights, self.precision);
        }
        self.states = States::Host(states);
    }

    /// A matrix made orthogonal, by the device: the processor would take long.
    fn orthogonal(&self, tensor: usize, values: &[f32]) -> Vec<f32> {
        let matrix = orthogonal(self.upload_tensor(tensor, values, Precision::F32));
        let data = matrix.into_data();
        data.try_into_vec()
            .unwrap_or_else(|error| panic!("a matrix cannot be read: {error:?}"))
    }

    /// A tensor of the layout on the device, in what it is computed with.
    pub(super) fn upload_tensor(
        &self,
        tensor: usize,
        values: &[f32],
        precision: Precision,
    ) -> Tensor<2> {
        let shape = shape(&self.layout, tensor);
        match compute_type(&self.layout.tensors()[tensor], precision) {
            DType::BF16 => {
                let short: Vec<bf16> = values
                    .par_iter()
                    .map(|value| bf16::from_f32(*value))
                    .collect();
                Tensor::from_data(TensorData::new(short, shape), (&self.device, DType::BF16))
            }
            _ => Tensor::from_data(TensorData::new(values.to_vec(), shape), &self.device),
        }
    }
}
