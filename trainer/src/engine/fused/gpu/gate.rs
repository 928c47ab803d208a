//! SwiGLU's gate.

use burn::backend::Cube;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::{DType, Tensor};
use weal_kernels::gpu::training;

use super::tracked::{parts, register, track};
use super::{flat, owned, tensor, values};
use crate::gpu_client::CubeTensor;

/// `gates` · σ(`gates`) · `ups`, both `[rows, columns]` and of one type, in which the output is,
/// too, and in which both are kept for the backward pass.
pub(in crate::engine) fn gated(gates: Tensor<2>, ups: Tensor<2>) -> Tensor<2> {
    if !gates.is_autodiff() && !ups.is_autodiff() {
        return product(&gates, &ups);
    }
    let ((gates, gate_node), (ups, up_node)) = (parts(gates), parts(ups));
    let output = product(&gates, &ups);
    track(Gated, [gate_node, up_node], (gates, ups), output)
}

fn product(gates: &Tensor<2>, ups: &Tensor<2>) -> Tensor<2> {
    let (shape, kind) = (gates.dims(), gates.dtype());
    let (gates, ups) = (in_f32(gates), in_f32(ups));
    let product = training::swiglu(&gates.client, &values(&gates), &values(&ups));
    tensor(&gates, product, shape).cast(kind)
}

fn in_f32(x: &Tensor<2>) -> CubeTensor {
    flat(x.clone().cast(DType::F32))
}

#[derive(Debug)]
struct Gated;

impl Backward<Cube, 2> for Gated {
    /// Gates and ups.
    type State = (Tensor<2>, Tensor<2>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let above = Tensor::<2>::from_primitive::<Cube>(gradients.consume::<Cube>(&ops.node));
        let (shape, kind) = (above.dims(), above.dtype());
        let above = owned(above.cast(DType::F32));
        let (gates, ups) = (in_f32(&ops.state.0), in_f32(&ops.state.1));
        let of_ups = values(&above);
        let of_gates =
            training::swiglu_backward(&gates.client, &values(&gates), &values(&ups), &of_ups);
        let [gate, up] = ops.parents.map(|parent| parent.map(|parent| parent.id));
        register(gradients, gate, || {
            tensor(&gates, of_gates, shape).cast(kind)
        });
        register(gradients, up, || tensor(&gates, of_ups, shape).cast(kind));
    }
}
