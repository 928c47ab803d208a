//! Operations with backward passes of their own, in burn's graph.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, OpsKind};
use burn::backend::{Autodiff, Cube};
use burn::tensor::Tensor;

use super::expected;

/// A tensor without its part in the graph, and that part.
pub(super) fn parts<const D: usize>(tensor: Tensor<D>) -> (Tensor<D>, NodeGuard) {
    let tensor = if tensor.is_autodiff() {
        tensor
    } else {
        tensor.autodiff()
    };
    let (primitive, node) = expected(tensor.try_into_primitive::<Autodiff<Cube>>()).into_parts();
    (Tensor::from_primitive::<Cube>(primitive), node)
}

/// Puts the output of an operation into the graph. Its backward pass gets `state`.
pub(super) fn track<Op, const N: usize, const D: usize>(
    operation: Op,
    nodes: [NodeGuard; N],
    state: Op::State,
    output: Tensor<D>,
) -> Tensor<D>
where
    Op: Backward<Cube, N>,
{
    let output = expected(output.try_into_primitive::<Cube>());
    let prepared = operation.prepare::<NoCheckpointing>(nodes);
    let tracked = match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Cube>>(tracked)
}

/// Registers the gradient of a parent, if it wants one.
pub(super) fn register<const D: usize>(
    gradients: &mut Gradients,
    parent: Option<NodeId>,
    found: impl FnOnce() -> Tensor<D>,
) {
    if let Some(parent) = parent {
        let gradient = expected(found().try_into_primitive::<Cube>());
        gradients.register::<Cube>(parent, gradient);
    }
}
