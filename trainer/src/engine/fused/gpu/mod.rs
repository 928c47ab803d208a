//! A GPU's operations, in [`weal_kernels::gpu::training`].
//!
//! All of them are in f32. They panic if a tensor is not on a GPU or not in f32.

mod cross_entropy;
mod gate;
mod norm;
mod rotate;
mod tracked;

use burn::backend::Cube;
use burn::tensor::{DType, Shape, Tensor};
use weal_kernels::gpu::training::{self, FlashAttention, SeenKeys, Values};
use weal_kernels::update;

use super::expected;
use crate::engine::weight_and_moments::WeightAndMoments;
use crate::gpu_client::CubeTensor;

pub(in crate::engine) use cross_entropy::cross_entropy;
pub(in crate::engine) use gate::gated;
pub(in crate::engine) use norm::norm;
pub(in crate::engine) use rotate::rotate;

/// The tensor's values in contiguous storage, as one row.
fn flat<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    let count: usize = tensor.dims().iter().product();
    let tensor: Tensor<1> = tensor.reshape([count]);
    let flat = expected(tensor.try_into_primitive::<Cube>());
    assert_eq!(flat.dtype, DType::F32, "operations on a GPU are in f32");
    flat
}

/// The same in storage that nothing else uses, to be overwritten.
fn owned<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    let flat = flat(tensor);
    if flat.handle.can_mut() {
        return flat;
    }
    self::flat(Tensor::<1>::from_primitive::<Cube>(flat).mul_scalar(1.0))
}

fn values(tensor: &CubeTensor) -> Values {
    Values {
        handle: tensor.handle.clone(),
        length: tensor.meta.shape().iter().product(),
    }
}

/// The values as a tensor on the device of `like`.
fn tensor<const D: usize>(like: &CubeTensor, values: Values, shape: [usize; D]) -> Tensor<D> {
    let tensor = CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        Shape::from(shape.to_vec()),
        values.handle,
        DType::F32,
    );
    Tensor::from_primitive::<Cube>(tensor)
}

/// AdamW's update, in place.
pub(in crate::engine) fn adamw(
    state: WeightAndMoments,
    gradient: Tensor<2>,
    numbers: &update::AdamW,
) -> WeightAndMoments {
    let shape = gradient.dims();
    let updated = [state.weight, state.first, state.second].map(owned);
    let gradient = flat(gradient);
    let [weight, first, second] = [&updated[0], &updated[1], &updated[2]].map(values);
    training::adamw(
        &gradient.client,
        [&weight, &first, &second],
        &values(&gradient),
        numbers,
    );
    let [weight, first, second] =
        [weight, first, second].map(|values| tensor(&gradient, values, shape));
    WeightAndMoments {
        weight,
        first,
        second,
    }
}

/// The sum of the squares of all values of some tensors, `[1]`.
pub(in crate::engine) fn sum_of_squares(tensors: &[Tensor<2>]) -> Option<Tensor<1>> {
    let all: Vec<CubeTensor> = tensors.iter().cloned().map(flat).collect();
    let first = all.first()?;
    let tensors: Vec<Values> = all.iter().map(values).collect();
    let sums = training::sum_of_squares(&first.client, &tensors);
    let count = sums.length;
    Some(tensor(first, sums, [count]).sum())
}

/// The attention weights of `scores`, `[.., rows, keys]`, and the logarithm of each row's sum of
/// exponentials, `[.., rows, 1]`.
pub(in crate::engine) fn attention_weights(
    scores: Tensor<4>,
    seen: &SeenKeys,
) -> (Tensor<4>, Tensor<4>) {
    let shape @ [sequences, heads, rows, _] = scores.dims();
    let scores = owned(scores);
    let weights = values(&scores);
    let log_sums = training::attention_weights(&scores.client, &weights, seen);
    (
        tensor(&scores, weights, shape),
        tensor(&scores, log_sums, [sequences, heads, rows, 1]),
    )
}

/// The attention weights again, and the gradient of the scores, given that of the weights; each
/// `[.., rows, keys]`. `log_sums` and `means`, Σ p ∘ δp, are `[.., rows, 1]`.
pub(in crate::engine) fn attention_backward(
    [scores, gradient]: [Tensor<4>; 2],
    [log_sums, means]: [Tensor<4>; 2],
    seen: &SeenKeys,
) -> [Tensor<4>; 2] {
    let shape = scores.dims();
    let (scores, gradient) = (owned(scores), owned(gradient));
    let (log_sums, means) = (flat(log_sums), flat(means));
    training::attention_backward(
        &scores.client,
        [&values(&scores), &values(&gradient)],
        [&values(&log_sums), &values(&means)],
        seen,
    );
    [&scores, &gradient].map(|of| tensor(of, values(of), shape))
}

/// The values that each query attends to, weighted, `[sequences, heads, tokens, width]`; and the
/// logarithm of each query's sum of exponentials, `[sequences, heads, tokens, 1]`.
pub(in crate::engine) fn flash_attention(
    flash: &FlashAttention,
    inputs: [Tensor<4>; 3],
) -> [Tensor<4>; 2] {
    let shape @ [sequences, heads, tokens, _] = inputs[0].dims();
    let inputs = inputs.map(flat);
    let [query, key, value] = inputs.each_ref().map(values);
    let [output, log_sums] = flash.forward(&inputs[0].client, [&query, &key, &value]);
    [
        tensor(&inputs[0], output, shape),
        tensor(&inputs[0], log_sums, [sequences, heads, tokens, 1]),
    ]
}

/// The gradients of the inputs of [`flash_attention`], given what it returned and the gradient of
/// its output.
pub(in crate::engine) fn flash_attention_backward(
    flash: &FlashAttention,
    inputs: [Tensor<4>; 3],
    kept: [Tensor<4>; 2],
    above: Tensor<4>,
) -> [Tensor<4>; 3] {
    let shapes = inputs.each_ref().map(Tensor::dims);
    let (inputs, kept, above) = (inputs.map(flat), kept.map(flat), flat(above));
    let [query, key, value] = inputs.each_ref().map(values);
    let [output, log_sums] = kept.each_ref().map(values);
    let [of_query, of_key, of_value] = flash.backward(
        &above.client,
        [&query, &key, &value],
        [&output, &log_sums],
        &values(&above),
    );
    [
        tensor(&above, of_query, shapes[0]),
        tensor(&above, of_key, shapes[1]),
        tensor(&above, of_value, shapes[2]),
    ]
}
