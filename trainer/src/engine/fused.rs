//! Operations that the CPU does in one pass where burn takes many, with their own backward passes.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary, unary};
use burn::backend::{Autodiff, BackendTypes, Flex};
use burn::tensor::{Device, Tensor};
use weal_kernels::softmax::{causal_softmax, causal_softmax_backward};
use weal_kernels::swiglu::{swiglu, swiglu_backward_gates, swiglu_backward_ups};
use weal_kernels::update;

use crate::engine::weight_and_moments::WeightAndMoments;

type FlexTensor = <Flex as BackendTypes>::FloatTensorPrimitive;

/// Whether these operations work on tensors of that device.
pub(super) fn serves(device: &Device) -> bool {
    *device == Device::flex()
}

/// The attention weights of each query: the softmax of `scores`, `[.., rows, keys]`, over the keys
/// that the query may see. Rows come in groups of one query per key (see [`causal_softmax`]).
///
/// # Panics
/// If the tensor is not on the CPU: ask [`serves`] first.
pub(super) fn attention_weights(scores: Tensor<4>) -> Tensor<4> {
    let keys = scores.dims()[3];
    if !scores.is_autodiff() {
        let scores = on_cpu(scores.try_into_primitive::<Flex>());
        return Tensor::from_primitive::<Flex>(weights(scores, keys));
    }
    let (scores, node) = on_cpu(scores.try_into_primitive::<Autodiff<Flex>>()).into_parts();
    let weights = weights(scores, keys);
    let tracked = match (CausalSoftmax { keys })
        .prepare::<NoCheckpointing>([node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prepared) => prepared.finish(weights.clone(), weights),
        OpsKind::UnTracked(prepared) => prepared.finish(weights),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(tracked)
}

/// `gates` · σ(`gates`) · `ups`, all `[rows, columns]` (see [`weal_kernels::swiglu`]).
///
/// # Panics
/// If a tensor is not on the CPU: ask [`serves`] first.
pub(super) fn gated(gates: Tensor<2>, ups: Tensor<2>) -> Tensor<2> {
    if !gates.is_autodiff() {
        let gates = on_cpu(gates.try_into_primitive::<Flex>());
        let ups = on_cpu(ups.try_into_primitive::<Flex>());
        return Tensor::from_primitive::<Flex>(apply_gates(gates, &contiguous(ups)));
    }
    let (gates, gate_node) = on_cpu(gates.try_into_primitive::<Autodiff<Flex>>()).into_parts();
    let (ups, up_node) = on_cpu(ups.try_into_primitive::<Autodiff<Flex>>()).into_parts();
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
/// If a tensor is not on the CPU: ask [`serves`] first.
pub(super) fn adamw(
    state: WeightAndMoments,
    gradient: Tensor<2>,
    numbers: &update::AdamW,
) -> WeightAndMoments {
    let plain = |tensor: Tensor<2>| contiguous(on_cpu(tensor.try_into_primitive::<Flex>()));
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

/// The sum of the squares of a tensor's values.
///
/// # Panics
/// If the tensor is not on the CPU: ask [`serves`] first.
pub(super) fn sum_of_squares(tensor: Tensor<2>) -> f64 {
    let tensor = contiguous(on_cpu(tensor.try_into_primitive::<Flex>()));
    update::sum_of_squares(tensor.storage::<f32>())
}

fn apply_gates(gates: FlexTensor, ups: &FlexTensor) -> FlexTensor {
    let mut outputs = contiguous(gates);
    swiglu(outputs.storage_mut::<f32>(), ups.storage::<f32>());
    outputs
}

#[allow(clippy::panic)] // a mistake of the caller
fn on_cpu<T, E: std::fmt::Debug>(primitive: Result<T, E>) -> T {
    primitive.unwrap_or_else(|error| panic!("the tensor is not on the CPU: {error:?}"))
}

fn weights(scores: FlexTensor, keys: usize) -> FlexTensor {
    let mut scores = contiguous(scores);
    causal_softmax(scores.storage_mut::<f32>(), keys, keys);
    scores
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
struct CausalSoftmax {
    keys: usize,
}

impl Backward<Flex, 1> for CausalSoftmax {
    /// The attention weights.
    type State = FlexTensor;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let weights = contiguous(ops.state);
        unary::<Flex, _>(ops.parents, ops.node, gradients, |gradient| {
            let mut gradient = contiguous(gradient);
            causal_softmax_backward(
                weights.storage::<f32>(),
                gradient.storage_mut::<f32>(),
                self.keys,
                self.keys,
            );
            gradient
        });
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
