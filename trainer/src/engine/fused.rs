//! Operations that the processor does in one pass where burn would make many, with backward passes
//! of their own.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary, unary};
use burn::backend::{Autodiff, BackendTypes, Flex};
use burn::tensor::{Device, Tensor};
use weal_kernels::softmax::{causal_softmax, causal_softmax_backward};
use weal_kernels::swiglu::{swiglu, swiglu_backward_gates, swiglu_backward_ups};
use weal_kernels::update;

use crate::engine::optimiser::Learnt;

type FlexTensor = <Flex as BackendTypes>::FloatTensorPrimitive;

/// Whether these operations are for tensors of that device.
pub(super) fn serves(device: &Device) -> bool {
    *device == Device::flex()
}

/// The weights with which each query gathers values: the softmax of `scores`, `[.., rows, keys]`,
/// over the keys that it may see, where rows are groups of as many queries as there are keys (see
/// [`causal_softmax`]).
///
/// # Panics
/// Where the tensor is not on the processor: ask [`serves`] first.
pub(super) fn attention_weights(scores: Tensor<4>) -> Tensor<4> {
    let keys = scores.dims()[3];
    if !scores.is_autodiff() {
        let scores = on_processor(scores.try_into_primitive::<Flex>());
        return Tensor::from_primitive::<Flex>(weights(scores, keys));
    }
    let (scores, node) = on_processor(scores.try_into_primitive::<Autodiff<Flex>>()).into_parts();
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
/// Where a tensor is not on the processor: ask [`serves`] first.
pub(super) fn gated(gates: Tensor<2>, ups: Tensor<2>) -> Tensor<2> {
    if !gates.is_autodiff() {
        let gates = on_processor(gates.try_into_primitive::<Flex>());
        let ups = on_processor(ups.try_into_primitive::<Flex>());
        return Tensor::from_primitive::<Flex>(open_gates(gates, &contiguous(ups)));
    }
    let (gates, gate_node) =
        on_processor(gates.try_into_primitive::<Autodiff<Flex>>()).into_parts();
    let (ups, up_node) = on_processor(ups.try_into_primitive::<Autodiff<Flex>>()).into_parts();
    let (gates, ups) = (contiguous(gates), contiguous(ups));
    let outputs = open_gates(gates.clone(), &ups);
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

/// AdamW's update, in the buffers where weights and moments are.
///
/// # Panics
/// Where a tensor is not on the processor: ask [`serves`] first.
pub(super) fn adamw(learnt: Learnt, gradient: Tensor<2>, numbers: &update::AdamW) -> Learnt {
    let plain = |tensor: Tensor<2>| contiguous(on_processor(tensor.try_into_primitive::<Flex>()));
    let [mut weight, mut first, mut second] =
        [learnt.weight, learnt.first, learnt.second].map(plain);
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
    Learnt {
        weight,
        first,
        second,
    }
}

/// The sum of the squares of a tensor's values.
///
/// # Panics
/// Where the tensor is not on the processor: ask [`serves`] first.
pub(super) fn sum_of_squares(tensor: Tensor<2>) -> f64 {
    let tensor = contiguous(on_processor(tensor.try_into_primitive::<Flex>()));
    update::sum_of_squares(tensor.storage::<f32>())
}

fn open_gates(gates: FlexTensor, ups: &FlexTensor) -> FlexTensor {
    let mut outputs = contiguous(gates);
    swiglu(outputs.storage_mut::<f32>(), ups.storage::<f32>());
    outputs
}

fn on_processor<T, E: std::fmt::Debug>(primitive: Result<T, E>) -> T {
    primitive.unwrap_or_else(|error| panic!("a tensor is not where it was asked for: {error:?}"))
}

fn weights(scores: FlexTensor, keys: usize) -> FlexTensor {
    let mut scores = contiguous(scores);
    causal_softmax(scores.storage_mut::<f32>(), keys, keys);
    scores
}

/// A tensor whose values lie one after the other, from the beginning of its storage to the end.
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
    /// The weights.
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
    /// Gates and what they let through.
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
