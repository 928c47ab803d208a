//! Optimiser states in host memory. The device holds only the weights that it computes with, and
//! one block's gradients at a time.
//!
//! Each gradient is added to the host's f32 sums as soon as it is computed. After the last gradient
//! of a step the CPU updates weights and moments with all its threads, and uploads each new weight
//! tensor to the device.

use std::mem;

use burn::tensor::Tensor;
use rayon::prelude::*;
use weal_kernels::{moments8, update};

use crate::compute_plan::{MomentFormat, Precision};
use crate::engine::moments::TensorMoments;
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
    /// Of each tensor.
    pub moments: Vec<TensorMoments>,
    pub seconds: Seconds,
    /// How moments are kept.
    pub format: MomentFormat,
}

impl HostStates {
    pub(super) fn new(seconds: Seconds, format: MomentFormat) -> Self {
        Self {
            seconds,
            format,
            ..Self::default()
        }
    }

    pub(super) fn set_weights(&mut self, weights: &[f32]) {
        self.masters = copied(mem::take(&mut self.masters), weights);
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
        let layout = transfer.layout();
        if self.moments.is_empty() {
            self.moments = TensorMoments::all_zeros(self.format, layout, &self.seconds);
        }
        for (index, uploaded) in uploaded.iter_mut().enumerate() {
            let range = layout.range(index);
            let weights = &mut self.masters[range.clone()];
            let gradients = &mut self.gradients[range];
            let (spec, moments) = (&layout.tensors()[index], &mut self.moments[index]);
            match update.muon {
                Some(memory) if is_block_matrix(spec) => {
                    let seed = update.rounding_seed(index);
                    momentum(moments, gradients, (memory as f32, clip), seed);
                    let steps = orthogonal(index, gradients, transfer)?;
                    update::step(weights, &steps, update.kept(spec), update.muon_rate(spec));
                }
                _ => {
                    let (numbers, seed) = (update.adamw(spec, clip), update.rounding_seed(index));
                    adamw(weights, moments, gradients, (&numbers, seed));
                }
            }
            // Free the old tensor first: the device may not have room for both.
            *uploaded = Tensor::zeros([1, 1], transfer.device());
            *uploaded = transfer.upload(index, weights, precision);
        }
        Ok(())
    }
}

/// Updates weights and moments by gradients. `seed` draws how moments in eight bits are rounded.
fn adamw(
    weights: &mut [f32],
    moments: &mut TensorMoments,
    gradients: &[f32],
    (numbers, seed): (&update::AdamW, u64),
) {
    match moments {
        TensorMoments::Full { first, second } => {
            update::adamw(weights, first, second, gradients, numbers);
        }
        TensorMoments::Short(moments) => {
            moments8::adamw(weights, moments, gradients, numbers, seed);
        }
    }
}

/// Updates a momentum, and replaces the gradients by Nesterov's look-ahead.
fn momentum(
    moments: &mut TensorMoments,
    gradients: &mut [f32],
    (memory, clip): (f32, f32),
    seed: u64,
) {
    match moments {
        TensorMoments::Full { first, .. } => update::nesterov(first, gradients, memory, clip),
        TensorMoments::Short(moments) => {
            let mut first = moments.first();
            update::nesterov(&mut first, gradients, memory, clip);
            moments.set_first(&first, seed);
        }
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
