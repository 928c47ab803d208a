//! RMSNorm.

use burn::backend::Cube;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use weal_kernels::gpu::training::{self, Values};

use super::tracked::{parts, register, track};
use super::{flat, tensor, values};
use crate::gpu_client::CubeTensor;

/// RMSNorm of rows, `[rows, width]`, times `gain`, `[1, width]`.
pub(in crate::engine) fn norm(x: Tensor<2>, gain: Tensor<2>, epsilon: f32) -> Tensor<2> {
    let shape = x.dims();
    let normed = |x: &CubeTensor, gain: &CubeTensor| {
        let [output, factors] = training::rms_norm(&x.client, &values(x), &values(gain), epsilon);
        (tensor(x, output, shape), factors)
    };
    if !x.is_autodiff() && !gain.is_autodiff() {
        return normed(&flat(x), &flat(gain)).0;
    }
    let ((x, x_node), (gain, gain_node)) = (parts(x), parts(gain));
    let (x, gain) = (flat(x), flat(gain));
    let (output, factors) = normed(&x, &gain);
    track(Norm, [x_node, gain_node], (x, gain, factors), output)
}

#[derive(Debug)]
struct Norm;

impl Backward<Cube, 2> for Norm {
    /// Input, gain, and the factor of each row.
    type State = (CubeTensor, CubeTensor, Values);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let above = Tensor::<2>::from_primitive::<Cube>(gradients.consume::<Cube>(&ops.node));
        let (shape, (x, gain, factors)) = (above.dims(), ops.state);
        let above = flat(above);
        let (input, gain) = (values(&x), values(&gain));
        let found =
            training::rms_norm_backward(&x.client, [&input, &gain], &factors, &values(&above));
        let width = gain.length;
        let parts = found.gain.length / width.max(1);
        let [input, gain] = ops.parents.map(|parent| parent.map(|parent| parent.id));
        register(gradients, input, || tensor(&x, found.input, shape));
        register(gradients, gain, || {
            tensor(&x, found.gain, [parts, width]).sum_dim(0)
        });
    }
}
