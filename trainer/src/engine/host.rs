//! Optimiser states in host memory. The device holds only the weights that it computes with, and
//! one block's gradients at a time.
//!
//! Each gradient is added to the host's f32 sums as soon as it is computed. After the last gradient
//! of a step the CPU updates weights and moments with all its threads, and uploads each new weight
//! tensor to the device.

use std::mem;

use burn::tensor::Tensor;
use rayon::prelude::*;
use weal_kernels::update;

use crate::compute_plan::Precision;
use crate::engine::optimiser::{Update, is_block_matrix, orthogonalise};
use crate::engine::seconds::Seconds;
use crate::engine::transfer::Transfer;
use crate::error::Result;

/// Flat vectors in the layout's order; empty until they are first needed.
#[derive(Default)]
pub(super) struct HostStates {
    /// The weights, in f32.
    pub masters: Vec<f32>,
    /// The gradient sums of the step.
    pub gradients: Vec<f32>,
    pub first: Vec<f32>,
    /// Of the tensors that have one.
    pub second: Vec<f32>,
    pub seconds: Seconds,
}

impl HostStates {
    pub(super) fn set_weights(&mut self, weights: &[f32]) {
        self.masters = copied(mem::take(&mut self.masters), weights);
    }

    /// A copy of the weights. It reuses the memory of the gradient sums, which are empty between
    /// two steps; give it back through `gradients`.
    pub(super) fn copy_of_weights(&mut self) -> Vec<f32> {
        copied(mem::take(&mut self.gradients), &self.masters)
    }

    /// Takes the gradient sums out, set to zero.
    pub(super) fn begin_sums(&mut self, parameters: usize) -> Vec<f32> {
        let mut sums = mem::take(&mut self.gradients);
        if sums.len() == parameters {
            sums.par_chunks_mut(1 << 16).for_each(|part| part.fill(0.0));
        } else {
            sums = vec![0.0; parameters];
        }
        sums
    }

    /// Updates the weights and moments by the gradient sums, scaled by `clip`, and uploads the new
    /// weights in place of `uploaded`.
    pub(super) fn update(
        &mut self,
        update: &Update,
        clip: f32,
        transfer: &Transfer,
        (uploaded, precision): (&mut [Tensor<2>], Precision),
    ) -> Result<()> {
        if self.first.is_empty() {
            self.first = vec![0.0; self.masters.len()];
            self.second = vec![0.0; self.seconds.len()];
        }
        let layout = transfer.layout();
        for (index, uploaded) in uploaded.iter_mut().enumerate() {
            let (spec, range) = (&layout.tensors()[index], layout.range(index));
            let (weights, first) = (
                &mut self.masters[range.clone()],
                &mut self.first[range.clone()],
            );
            let gradients = &mut self.gradients[range.clone()];
            match update.muon {
                Some(memory) if is_block_matrix(spec) => {
                    update::nesterov(first, gradients, memory as f32, clip);
                    let steps = orthogonal(index, gradients, transfer)?;
                    update::step(weights, &steps, update.kept(spec), update.muon_rate(spec));
                }
                _ => update::adamw(
                    weights,
                    first,
                    &mut self.second[self.seconds.range(index)],
                    gradients,
                    &update.adamw(spec, clip),
                ),
            }
            // Free the old tensor first: the device may not have room for both.
            *uploaded = Tensor::zeros([1, 1], transfer.device());
            *uploaded = transfer.upload(index, weights, precision);
        }
        Ok(())
    }
}

/// Orthogonalises a matrix on the device, which is much faster at it than the CPU.
fn orthogonal(tensor: usize, values: &[f32], transfer: &Transfer) -> Result<Vec<f32>> {
    let matrix = orthogonalise(transfer.upload(tensor, values, Precision::F32));
    transfer.read(matrix, "orthogonalising a step")
}

/// Copies `values` into `memory`, which is reused if it has the right length.
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
