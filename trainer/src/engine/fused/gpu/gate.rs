//! SwiGLU's gate.

use burn::backend::Cube;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use weal_kernels::gpu::training;

use super::tracked::{parts, register, track};
use super::{flat, owned, tensor, values};
use crate::gpu_client::CubeTensor;

/// `gates` · σ(`gates`) · `ups`, both `[rows, columns]`.
pub(in crate::engine) fn gated(gates: Tensor<2>, ups: Tensor<2>) -> Tensor<2> {
    let shape = gates.dims();
    let output = |gates: &CubeTensor, ups: &CubeTensor| {
        let output = training::swiglu(&gates.client, &values(gates), &values(ups));
        tensor(gates, output, shape)
    };
    if !gates.is_autodiff() && !ups.is_autodiff() {
        return output(&flat(gates), &flat(ups));
    }
    let ((gates, gate_node), (ups, up_node)) = (parts(gates), parts(ups));
    let (gates, ups) = (flat(gates), flat(ups));
    let output = output(&gates, &ups);
    track(Gated, [gate_node, up_node], (gates, ups), output)
}

#[derive(Debug)]
struct Gated;

impl Backward<Cube, 2> for Gated {
    /// Gates and ups.
    type State = (CubeTensor, CubeTensor);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let above = Tensor::<2>::from_primitive::<Cube>(gradients.consume::<Cube>(&ops.node));
        let (shape, (gates, ups)) = (above.dims(), ops.state);
        let above = owned(above);
        let of_ups = values(&above);
        let of_gates =
            training::swiglu_backward(&gates.client, &values(&gates), &values(&ups), &of_ups);
        let [gate, up] = ops.parents.map(|parent| parent.map(|parent| parent.id));
        register(gradients, gate, || tensor(&gates, of_gates, shape));
        register(gradients, up, || tensor(&gates, of_ups, shape));
    }
}
