//! The CPU's operations, in [`weal_kernels`].

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary};
use burn::backend::{Autodiff, BackendTypes, Flex};
use burn::tensor::Tensor;
use weal_kernels::moments8::{self, Moments8};
use weal_kernels::softmax::{CausalRows, causal_softmax, causal_softmax_backward};
use weal_kernels::swiglu::{swiglu, swiglu_backward_gates, swiglu_backward_ups};
use weal_kernels::update;

use super::expected;
use crate::engine::weight_and_moments::WeightAndMoments;

type FlexTensor = <Flex as BackendTypes>::FloatTensorPrimitive;

/// The attention weights of each query: the softmax of `scores`, `[.., rows, keys]`, over the keys
/// that the query may see.
///
/// # Panics
/// If the tensor is not on the CPU.
pub(in crate::engine) fn attention_weights(scores: Tensor<4>, rows: &CausalRows) -> Tensor<4> {
    let mut scores = contiguous(expected(scores.try_into_primitive::<Flex>()));
    causal_softmax(scores.storage_mut::<f32>(), rows);
    Tensor::from_primitive::<Flex>(scores)
}

/// The gradient of the scores, given the attention weights and their gradient.
///
/// # Panics
/// If a tensor is not on the CPU.
pub(in crate::engine) fn attention_weights_backward(
    weights: Tensor<4>,
    gradient: Tensor<4>,
    rows: &CausalRows,
) -> Tensor<4> {
    let plain = |tensor: Tensor<4>| contiguous(expected(tensor.try_into_primitive::<Flex>()));
    let (weights, mut gradient) = (plain(weights), plain(gradient));
    causal_softmax_backward(
        weights.storage::<f32>(),
        gradient.storage_mut::<f32>(),
        rows,
    );
    Tensor::from_primitive::<Flex>(gradient)
}

/// `gates` · σ(`gates`) · `ups`, all `[rows, columns]` (see [`weal_kernels::swiglu`]).
///
/// # Panics
/// If a tensor is not on the CPU.
pub(in crate::engine) fn gated(gates: Tensor<2>, ups: Tensor<2>) -> Tensor<2> {
    if !gates.is_autodiff() {
        let gates = expected(gates.try_into_primitive::<Flex>());
        let ups = expected(ups.try_into_primitive::<Flex>());
        return Tensor::from_primitive::<Flex>(apply_gates(gates, &contiguous(ups)));
    }
    let (gates, gate_node) = expected(gates.try_into_primitive::<Autodiff<Flex>>()).into_parts();
    let (ups, up_node) = expected(ups.try_into_primitive::<Autodiff<Flex>>()).into_parts();
    let (gates, ups) = (contiguous(gates), contiguous(ups));
    let outputs = apply_gates(gates.clone(), &ups);
    let prepared = Gated
        .prepare::<NoCheckpointing>([gate_node, up_node])
        .compute_bound()
        .stateful();
    let tracked = match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((gates, ups), outputs),
        OpsKind::UnTracked(prepared) => prepared.finish(outputs),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(tracked)
}

/// AdamW's update, in place.
///
/// # Panics
/// If a tensor is not on the CPU.
pub(in crate::engine) fn adamw(
    state: WeightAndMoments,
    gradient: Tensor<2>,
    numbers: &update::AdamW,
) -> WeightAndMoments {
    let [mut weight, mut first, mut second] = [state.weight, state.first, state.second].map(plain);
    let gradient = plain(gradient);
    let (weights, gradients) = (weight.storage_mut::<f32>(), gradient.storage::<f32>());
    update::adamw(
        weights,
        first.storage_mut::<f32>(),
        second.storage_mut::<f32>(),
        gradients,
        numbers,
    );
    let [weight, first, second] = [weight, first, second].map(Tensor::from_primitive::<Flex>);
    WeightAndMoments {
        weight,
        first,
        second,
    }
}

/// AdamW's update, in place, with moments in eight bits.
///
/// # Panics
/// If a tensor is not on the CPU.
pub(in crate::engine) fn adamw_short(
    weight: Tensor<2>,
    moments: &mut Moments8,
    gradient: Tensor<2>,
    (numbers, seed): (&update::AdamW, u64),
) -> Tensor<2> {
    let [mut weight, gradient] = [weight, gradient].map(plain);
    let (weights, gradients) = (weight.storage_mut::<f32>(), gradient.storage::<f32>());
    moments8::adamw(weights, moments, gradients, numbers, seed);
    Tensor::from_primitive::<Flex>(weight)
}

/// Passes a tensor's values to `look`.
///
/// # Panics
/// If the tensor is not on the CPU.
pub(in crate::engine) fn with_values<T>(tensor: Tensor<2>, look: impl FnOnce(&[f32]) -> T) -> T {
    look(plain(tensor).storage::<f32>())
}

/// Passes the values of many tensors to `look`.
///
/// # Panics
/// If a tensor is not on the CPU.
pub(in crate::engine) fn with_all_values<T>(
    tensors: &[Tensor<2>],
    look: impl FnOnce(&[&[f32]]) -> T,
) -> T {
    let tensors: Vec<FlexTensor> = tensors.iter().cloned().map(plain).collect();
    let values: Vec<&[f32]> = tensors.iter().map(|tensor| tensor.storage()).collect();
    look(&values)
}

fn plain(tensor: Tensor<2>) -> FlexTensor {
    contiguous(expected(tensor.try_into_primitive::<Flex>()))
}

/// The sum of the squares of a tensor's values.
///
/// # Panics
/// If the tensor is not on the CPU.
pub(in crate::engine) fn sum_of_squares(tensor: Tensor<2>) -> f64 {
    let tensor = contiguous(expected(tensor.try_into_primitive::<Flex>()));
    update::sum_of_squares(tensor.storage::<f32>())
}

fn apply_gates(gates: FlexTensor, ups: &FlexTensor) -> FlexTensor {
    let mut outputs = contiguous(gates);
    swiglu(outputs.storage_mut::<f32>(), ups.storage::<f32>());
    outputs
}

/// The tensor in contiguous storage of its own, without offset or gaps.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.layout().start_offset() == 0
        && tensor.bytes().len() == tensor.layout().num_elements() * 4;
    if tensor.is_contiguous() && whole {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

#[derive(Debug)]
struct Gated;

impl Backward<Flex, 2> for Gated {
    /// Gates and ups.
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (gates, ups) = ops.state;
        let of_gates = |gradient: FlexTensor| {
            let mut gradient = contiguous(gradient);
            swiglu_backward_gates(
                gates.storage::<f32>(),
                ups.storage::<f32>(),
                gradient.storage_mut::<f32>(),
            );
            gradient
        };
        let of_ups = |gradient: FlexTensor| {
            let mut gradient = contiguous(gradient);
            swiglu_backward_ups(gates.storage::<f32>(), gradient.storage_mut::<f32>());
            gradient
        };
        binary::<Flex, _, _>(ops.parents, ops.node, gradients, of_gates, of_ups);
    }
}
