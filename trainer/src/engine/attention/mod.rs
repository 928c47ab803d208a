//! Attention in blocks of queries, so that its memory grows with a window's length and not with the
//! square of it.
//!
//! Each block of queries takes only the keys that it can see. The forward pass keeps no scores. The
//! backward pass computes them again, block by block (Rabe and Staats, 2021,
//! <https://arxiv.org/abs/2112.05682>):
//!
//! ```text
//! p = softmax(s)   δp = δo vᵗ   δs = p ∘ (δp − Σ p ∘ δp)   δq = δs k   δk = δsᵗ q   δv = pᵗ δo
//! ```
//!
//! The softmax and its gradient take one pass each. A GPU keeps each query's log Σ exp s from the
//! forward pass, from which p follows at once, and its output o: Σ p ∘ δp is Σ δo ∘ o. It may also
//! do without blocks: see [`tuned`].

mod tuned;

use std::ops::Range;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Cube, Flex};
use burn::tensor::{DType, Device, Tensor};
use weal_kernels::gpu::training::SeenKeys;
use weal_kernels::softmax::CausalRows;

use self::tuned::Attended;
use crate::engine::fused::{self, cpu, gpu};
use crate::gpus::is_software;

/// The most queries in one block.
pub(crate) const QUERIES_AT_ONCE: usize = 256;
/// The most scores of one block; blocks of long windows are smaller. 256 MiB of them.
const BLOCK_SCORES: usize = 1 << 26;
/// A GPU's blocks begin and end at multiples of that many keys, because each shape may need kernels
/// of its own.
const KEYS_STEP: usize = 256;

/// How queries see keys.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    /// The position of the first query among the keys.
    pub from: usize,
    /// The most keys that a query sees, its own included; `usize::MAX` for all before it.
    pub window: usize,
    /// Limits scores s smoothly, to cap · tanh(s / cap).
    pub softcap: Option<f32>,
    /// The most queries in one block.
    pub block: usize,
    is_on_cpu: bool,
    /// Whether a GPU measures which form of attention is faster. A software GPU needs minutes to.
    measures: bool,
}

/// A block of queries, and the keys that they see.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
}

/// What the gradient of a block's scores takes.
struct Parts<'a> {
    block: &'a Block,
    scores: &'a dyn Fn() -> Tensor<4>,
    /// The gradient of the output.
    above: Tensor<4>,
    /// The gradient of the attention weights.
    of_weights: Tensor<4>,
}

/// Queries, keys and values. `[sequences, heads, tokens, head width]`; keys and values may have
/// fewer heads, each shared by a group of query heads.
pub(super) type Inputs = [Tensor<4>; 3];

/// What the forward pass keeps for the backward pass. Only a few of these exist at a time.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant)]
pub(super) enum Kept {
    /// The attention weights of the only block, or nothing if there are several.
    Weights(Option<Tensor<4>>),
    /// On a GPU.
    Attended(Attended),
}

impl Attention {
    /// Causal attention on a device.
    pub(super) fn new(device: &Device) -> Self {
        Self {
            from: 0,
            window: usize::MAX,
            softcap: None,
            block: QUERIES_AT_ONCE,
            is_on_cpu: fused::is_cpu(device),
            measures: !fused::is_cpu(device) && !is_software(device),
        }
    }

    /// The same for queries of which the first has position `from`.
    pub(super) fn starting_at(&self, from: usize) -> Self {
        Self {
            from,
            ..self.clone()
        }
    }

    /// The values that each query attends to, weighted, in the shape of the queries. Keys are those
    /// of positions 0, 1, …; those after the last query are not seen.
    pub(super) fn attend(&self, inputs: Inputs) -> Tensor<4> {
        match (inputs[0].is_autodiff(), self.is_on_cpu) {
            (false, _) => self.forward(&inputs).0,
            (true, true) => self.tracked_on_cpu(inputs),
            (true, false) => self.tracked_on_gpu(inputs),
        }
    }

    fn forward(&self, inputs: &Inputs) -> (Tensor<4>, Kept) {
        if !self.is_on_cpu {
            let attended = tuned::forward(self, inputs);
            return (attended.output.clone(), Kept::Attended(attended));
        }
        let blocks = self.blocks(inputs);
        let keeps_weights = blocks.len() == 1 && self.softcap.is_none();
        let (mut outputs, mut kept) = (Vec::new(), None);
        for block in blocks {
            let [query, key, value] = block.inputs(inputs);
            let kind = value.dtype();
            let weights = cpu::attention_weights(self.scores(query, key), &self.rows(&block));
            kept = keeps_weights.then(|| weights.clone());
            outputs.push(block.ungroup(weights.cast(kind).matmul(value), inputs));
        }
        (joined(outputs), Kept::Weights(kept))
    }

    /// The forward pass of a GPU, in blocks of queries.
    fn forward_in_blocks(&self, inputs: &Inputs) -> Attended {
        let (mut outputs, mut log_sums) = (Vec::new(), Vec::new());
        for block in self.blocks(inputs) {
            let [query, key, value] = block.inputs(inputs);
            let kind = value.dtype();
            let (weights, sums) =
                gpu::attention_weights(self.scores(query, key), &self.seen(&block));
            log_sums.push(block.ungroup(sums, inputs));
            outputs.push(block.ungroup(weights.cast(kind).matmul(value), inputs));
        }
        Attended {
            output: joined(outputs),
            log_sums: joined(log_sums),
        }
    }

    /// The gradients of queries, keys and values, given that of the output.
    fn backward(&self, inputs: &Inputs, kept: &Kept, above: &Tensor<4>) -> Inputs {
        match kept {
            Kept::Attended(attended) => tuned::backward(self, inputs, attended, above),
            Kept::Weights(weights) => self.sum_gradients(inputs, above, |parts| {
                let Parts { block, scores, .. } = parts;
                let rows = self.rows(block);
                let weights = weights
                    .clone()
                    .unwrap_or_else(|| cpu::attention_weights(scores(), &rows));
                let of_scores =
                    cpu::attention_weights_backward(weights.clone(), parts.of_weights, &rows);
                [weights, self.uncapped(of_scores, scores)]
            }),
        }
    }

    /// The backward pass of a GPU, in blocks of queries.
    fn backward_in_blocks(&self, inputs: &Inputs, kept: &Attended, above: &Tensor<4>) -> Inputs {
        self.sum_gradients(inputs, above, |parts| {
            let Parts { block, scores, .. } = parts;
            let scores = scores();
            let capped = self.softcap.map(|_| scores.clone());
            let mean = wide(parts.above * block.group(&kept.output, inputs)).sum_dim(3);
            let [weights, of_scores] = gpu::attention_backward(
                [scores, parts.of_weights],
                [block.group(&kept.log_sums, inputs), mean],
                &self.seen(block),
            );
            let of_scores = match capped {
                Some(capped) => self.uncapped(of_scores, || capped),
                None => of_scores,
            };
            [weights, of_scores]
        })
    }

    /// The gradients of queries, keys and values, block by block. `differentiate` finds a block's
    /// attention weights, and the gradient of its scores.
    fn sum_gradients(
        &self,
        inputs: &Inputs,
        above: &Tensor<4>,
        differentiate: impl Fn(Parts<'_>) -> [Tensor<4>; 2],
    ) -> Inputs {
        let kind = inputs[0].dtype();
        let zeros = |like: &Tensor<4>| wide(like.zeros_like());
        let (mut queries, mut keys, mut values) =
            (Vec::new(), zeros(&inputs[1]), zeros(&inputs[2]));
        for block in self.blocks(inputs) {
            let [query, key, value] = block.inputs(inputs);
            let above = block.group(above, inputs);
            let parts = Parts {
                block: &block,
                scores: &|| self.scores(query.clone(), key.clone()),
                above: above.clone(),
                of_weights: wide(above.clone().matmul(value.swap_dims(2, 3))),
            };
            let [weights, of_scores] = differentiate(parts).map(|found| found.cast(kind));
            values = block.add_to(values, weights.swap_dims(2, 3).matmul(above));
            keys = block.add_to(
                keys,
                of_scores.clone().swap_dims(2, 3).matmul(query.clone()),
            );
            queries.push(block.ungroup(of_scores.matmul(key.clone()), inputs));
        }
        [joined(queries), keys.cast(kind), values.cast(kind)]
    }

    /// Scores in f32, `[sequences, key heads, queries of a group, keys]`, capped and not masked.
    fn scores(&self, query: Tensor<4>, key: Tensor<4>) -> Tensor<4> {
        let scores = wide(query.matmul(key.swap_dims(2, 3)));
        match self.softcap {
            Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
            None => scores,
        }
    }

    /// The gradient of the scores before the cap, given that after it.
    fn uncapped(&self, gradient: Tensor<4>, capped: impl FnOnce() -> Tensor<4>) -> Tensor<4> {
        match self.softcap {
            Some(cap) => {
                let share = capped().div_scalar(cap).square();
                gradient * share.neg().add_scalar(1.0)
            }
            None => gradient,
        }
    }

    fn rows(&self, block: &Block) -> CausalRows {
        CausalRows {
            keys: block.keys.len(),
            queries: block.queries.len(),
            window: self.window,
        }
    }

    fn seen(&self, block: &Block) -> SeenKeys {
        SeenKeys {
            keys: block.keys.len(),
            queries: block.queries.len(),
            first_query: self.from + block.queries.start,
            first_key: block.keys.start,
            window: self.window,
        }
    }

    /// The blocks of queries, in order.
    fn blocks(&self, inputs: &Inputs) -> Vec<Block> {
        let [sequences, heads, queries, _] = inputs[0].dims();
        let all_keys = inputs[1].dims()[2];
        let size = queries_at_once(sequences * heads, all_keys).min(self.block);
        let step = if self.is_on_cpu { 1 } else { KEYS_STEP };
        let block = |start: usize| {
            let end = (start + size).min(queries);
            let first = (self.from + start + 1).saturating_sub(self.window);
            let last = (self.from + end).next_multiple_of(step).min(all_keys);
            Block {
                queries: start..end,
                keys: first / step * step..last,
            }
        };
        (0..queries).step_by(size).map(block).collect()
    }
}

/// Queries in one block of attention with that many query heads in all sequences together.
pub(crate) fn queries_at_once(heads: usize, keys: usize) -> usize {
    (BLOCK_SCORES / heads.saturating_mul(keys).max(1)).clamp(1, QUERIES_AT_ONCE)
}

impl Block {
    /// The block's queries, keys and values.
    fn inputs(&self, inputs: &Inputs) -> Inputs {
        let [_, key, value] = inputs;
        let of_keys = |x: &Tensor<4>| part(x, &self.keys);
        [self.group(&inputs[0], inputs), of_keys(key), of_keys(value)]
    }

    /// The block's part of a tensor of the queries' shape. Queries of all heads that share a key
    /// head are stacked, `[sequences, key heads, group · queries, ..]`, so that no key is copied.
    fn group(&self, x: &Tensor<4>, [query, key, _]: &Inputs) -> Tensor<4> {
        let ([sequences, heads, ..], kv_heads) = (query.dims(), key.dims()[1]);
        let rows = heads / kv_heads * self.queries.len();
        part(x, &self.queries).reshape([sequences, kv_heads, rows, x.dims()[3]])
    }

    /// The reverse of [`Self::group`].
    fn ungroup(&self, x: Tensor<4>, [query, ..]: &Inputs) -> Tensor<4> {
        let ([sequences, heads, ..], width) = (query.dims(), x.dims()[3]);
        x.reshape([sequences, heads, self.queries.len(), width])
    }

    /// Adds the block's gradient of keys or values to the sum.
    fn add_to(&self, sum: Tensor<4>, gradient: Tensor<4>) -> Tensor<4> {
        let [sequences, heads, keys, width] = sum.dims();
        let gradient = wide(gradient);
        if self.keys == (0..keys) {
            return sum + gradient;
        }
        let place = [0..sequences, 0..heads, self.keys.clone(), 0..width];
        let so_far = part(&sum, &self.keys);
        sum.slice_assign(place, so_far + gradient)
    }
}

/// Some tokens of a tensor.
fn part(x: &Tensor<4>, tokens: &Range<usize>) -> Tensor<4> {
    if *tokens == (0..x.dims()[2]) {
        return x.clone();
    }
    x.clone().narrow(2, tokens.start, tokens.len())
}

/// Blocks one after the other.
fn joined(mut blocks: Vec<Tensor<4>>) -> Tensor<4> {
    if blocks.len() == 1 {
        return blocks.remove(0);
    }
    Tensor::cat(blocks, 2)
}

/// The tensor in f32.
fn wide(x: Tensor<4>) -> Tensor<4> {
    x.cast(DType::F32)
}

/// Defines the operation for automatic differentiation on one backend.
macro_rules! tracked {
    ($name:ident, $backend:ty) => {
        impl Attention {
            /// # Panics
            /// If a tensor is on another backend.
            fn $name(&self, inputs: Inputs) -> Tensor<4> {
                let plain = inputs.clone().map(Tensor::inner);
                let nodes = inputs.map(|input| {
                    let primitive = input.try_into_primitive::<Autodiff<$backend>>();
                    fused::expected(primitive).into_parts().1
                });
                let (output, kept) = self.forward(&plain);
                let output = fused::expected(output.try_into_primitive::<$backend>());
                let prepared =
                    Backward::<$backend, 3>::prepare::<NoCheckpointing>(self.clone(), nodes);
                let tracked = match prepared.compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish((plain, kept), output),
                    OpsKind::UnTracked(prepared) => prepared.finish(output),
                };
                Tensor::from_primitive::<Autodiff<$backend>>(tracked)
            }
        }

        impl Backward<$backend, 3> for Attention {
            type State = (Inputs, Kept);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                gradients: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let above = gradients.consume::<$backend>(&ops.node);
                let above = Tensor::from_primitive::<$backend>(above);
                let (inputs, kept) = ops.state;
                let found = Attention::backward(&self, &inputs, &kept, &above);
                for (parent, gradient) in ops.parents.into_iter().zip(found) {
                    let Some(parent) = parent else { continue };
                    let gradient = fused::expected(gradient.try_into_primitive::<$backend>());
                    gradients.register::<$backend>(parent.id, gradient);
                }
            }
        }
    };
}

tracked!(tracked_on_cpu, Flex);
tracked!(tracked_on_gpu, Cube);

#[cfg(test)]
mod long_windows;
#[cfg(test)]
mod tests;
