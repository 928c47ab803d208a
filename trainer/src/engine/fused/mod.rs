//! Operations that take one pass over memory where burn takes many, with their own backward passes.

pub(super) mod cpu;
pub(super) mod gpu;

use burn::tensor::{DType, Device, Tensor};
use weal_kernels::update;

use crate::engine::weight_and_moments::WeightAndMoments;

/// Whether a device is the CPU.
pub(super) fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// `gates` · σ(`gates`) · `ups`, both `[rows, columns]`, computed in f32 (see
/// [`weal_kernels::swiglu`]). A GPU keeps and returns them in their own type.
pub(super) fn gated(gates: Tensor<2>, ups: Tensor<2>) -> Tensor<2> {
    if is_cpu(&gates.device()) {
        cpu::gated(gates.cast(DType::F32), ups.cast(DType::F32))
    } else {
        gpu::gated(gates, ups)
    }
}

/// AdamW's update, in place.
pub(super) fn adamw(
    state: WeightAndMoments,
    gradient: Tensor<2>,
    numbers: &update::AdamW,
) -> WeightAndMoments {
    if is_cpu(&gradient.device()) {
        cpu::adamw(state, gradient, numbers)
    } else {
        gpu::adamw(state, gradient, numbers)
    }
}

/// The primitive of a tensor on a known device.
///
/// # Panics
/// If the tensor is on another device.
#[allow(clippy::panic)] // a mistake of the caller
pub(super) fn expected<T, E: std::fmt::Debug>(primitive: Result<T, E>) -> T {
    primitive.unwrap_or_else(|error| panic!("the tensor is on another device: {error:?}"))
}
