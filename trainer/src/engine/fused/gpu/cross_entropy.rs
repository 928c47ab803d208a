//! The loss of each row of scores.

use burn::backend::Cube;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::{DType, Int, Tensor};
use weal_kernels::gpu::training::{self, Values};

use super::tracked::{parts, register, track};
use super::{expected, flat, owned, tensor, values};
use crate::gpu_client::CubeTensor;

/// −log p of each row's target, `[rows, 1]`, among its scores, `[rows, columns]`. `targets` is
/// `[rows]`.
pub(in crate::engine) fn cross_entropy(scores: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
    let shape @ [rows, _] = scores.dims();
    let targets = expected(targets.try_into_primitive::<Cube>());
    assert_eq!(targets.dtype, DType::I32, "tokens on a GPU are i32");
    let targets = values(&targets);
    let losses = |scores: &CubeTensor| {
        let [losses, sums] = training::cross_entropy(&scores.client, &values(scores), &targets);
        (tensor(scores, losses, [rows, 1]), sums)
    };
    if !scores.is_autodiff() {
        return losses(&flat(scores)).0;
    }
    let (scores, node) = parts(scores);
    let scores = flat(scores);
    let (output, log_sums) = losses(&scores);
    let scores = tensor(&scores, values(&scores), shape);
    track(CrossEntropy, [node], (scores, targets, log_sums), output)
}

#[derive(Debug)]
struct CrossEntropy;

impl Backward<Cube, 1> for CrossEntropy {
    /// Scores, targets, and the logarithm of each row's sum of exponentials.
    type State = (Tensor<2>, Values, Values);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let above = Tensor::<2>::from_primitive::<Cube>(gradients.consume::<Cube>(&ops.node));
        let (scores, targets, log_sums) = ops.state;
        let shape = scores.dims();
        let (scores, above) = (owned(scores), flat(above));
        let found = values(&scores);
        training::cross_entropy_backward(
            &scores.client,
            &found,
            &targets,
            [&log_sums, &values(&above)],
        );
        let [parent] = ops.parents.map(|parent| parent.map(|parent| parent.id));
        register(gradients, parent, || tensor(&scores, found, shape));
    }
}
