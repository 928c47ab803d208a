//! The global norm of tensors.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::engine::fused;
use crate::engine::transfer::Transfer;
use crate::error::Result;

/// The L2 norm of all values of f32 tensors together.
pub(super) fn norm(tensors: &[Tensor<2>], transfer: &Transfer) -> Result<f64> {
    if transfer.is_cpu() {
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
    Ok(f64::from(transfer.read_scalar(norm, "computing a norm")?))
}
