//! The global norm of tensors.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::engine::fused::{cpu, gpu};
use crate::engine::transfer::Transfer;
use crate::error::Result;

/// The L2 norm of all values of f32 tensors together.
pub(super) fn norm(tensors: &[Tensor<2>], transfer: &Transfer) -> Result<f64> {
    if transfer.is_cpu() {
        let squares: Vec<f64> = tensors
            .par_iter()
            .cloned()
            .map(cpu::sum_of_squares)
            .collect();
        return Ok(squares.iter().sum::<f64>().sqrt());
    }
    let Some(squares) = gpu::sum_of_squares(tensors) else {
        return Ok(0.0);
    };
    let squares = transfer.read_scalar(squares, "computing a norm")?;
    Ok(f64::from(squares).sqrt())
}

/// A step's loss, `[1]`, and the norm of its gradients, read from the device together.
pub(super) fn loss_and_norm(
    loss: Tensor<1>,
    gradients: &[Tensor<2>],
    transfer: &Transfer,
) -> Result<(f64, f64)> {
    let action = "computing a loss and its gradient";
    let squares = if transfer.is_cpu() {
        None
    } else {
        gpu::sum_of_squares(gradients)
    };
    let Some(squares) = squares else {
        let loss = transfer.read_scalar(loss, action)?;
        return Ok((f64::from(loss), norm(gradients, transfer)?));
    };
    let both = transfer.read(Tensor::cat(vec![loss, squares], 0), action)?;
    let number = |place: usize| both.get(place).copied().map_or(f64::NAN, f64::from);
    Ok((number(0), number(1).sqrt()))
}
