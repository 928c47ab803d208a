//! The model's forward pass in burn's tensors, with automatic differentiation on any device.
//!
//! Matrix products are in the type of the weights, f32 or bf16. Everything else is f32: the
//! residual stream, norms, rotary positions, softmax, losses. Casting a tensor to its own type
//! costs nothing.

use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

use crate::engine::fused;
use crate::engine::rope::Rotation;
use crate::spec::ModelSpec;
use crate::tensor_index::{BlockIndex, TensorIndex};

/// Added to the score of a masked token: its weight becomes zero, and nothing becomes NaN.
const HIDDEN: f32 = -1e9;

/// The parts of the model that are not learnt, for windows of one length.
#[derive(Clone)]
pub(super) struct Model {
    spec: ModelSpec,
    index: TensorIndex,
    length: usize,
    rotation: Rotation,
    /// The causal mask; `None` on a device with fused operations, which need none.
    mask: Option<Tensor<4>>,
}

impl Model {
    /// The model for windows of `length` tokens.
    pub(super) fn new(spec: &ModelSpec, length: usize, device: &Device) -> Self {
        Self {
            index: TensorIndex::new(spec),
            length,
            rotation: Rotation::new(spec, length, device),
            mask: (!fused::serves(device)).then(|| causal_mask(spec, 0, length, length, device)),
            spec: spec.clone(),
        }
    }

    /// The window length, in tokens.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The position of each tensor in the layout.
    pub(super) fn index(&self) -> TensorIndex {
        self.index
    }

    /// The model's sizes.
    pub(super) fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The normed stream after the last block, `[sequences · length, width]`, for `inputs`,
    /// `[sequences · length]`.
    pub(super) fn stream(&self, weights: &[Tensor<2>], inputs: Tensor<1, Int>) -> Tensor<2> {
        self.stream_from(weights, self.embed(weights, inputs))
    }

    /// [`Self::stream`] from the stream before the first block.
    pub(super) fn stream_from(&self, weights: &[Tensor<2>], stream: Tensor<2>) -> Tensor<2> {
        self.blocks(weights, stream, |_, index, normed| {
            self.attention(weights, index, normed)
        })
    }

    /// [`Self::stream_from`] with its attention computed by `attention`, which takes the block's
    /// number, its tensors and its normed stream.
    pub(super) fn blocks(
        &self,
        weights: &[Tensor<2>],
        mut stream: Tensor<2>,
        mut attention: impl FnMut(usize, BlockIndex, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        for layer in 0..self.spec.layers {
            stream = self.block_with(weights, layer, stream, &mut attention);
        }
        self.final_norm(weights, stream)
    }

    /// The stream before the first block, `[sequences · length, width]`.
    pub(super) fn embed(&self, weights: &[Tensor<2>], inputs: Tensor<1, Int>) -> Tensor<2> {
        wide(weights[self.index.embedding()].clone().select(0, inputs))
    }

    /// The stream after one block.
    pub(super) fn block(
        &self,
        weights: &[Tensor<2>],
        layer: usize,
        stream: Tensor<2>,
    ) -> Tensor<2> {
        self.block_with(weights, layer, stream, &mut |_, index, normed| {
            self.attention(weights, index, normed)
        })
    }

    fn block_with(
        &self,
        weights: &[Tensor<2>],
        layer: usize,
        stream: Tensor<2>,
        attention: &mut impl FnMut(usize, BlockIndex, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let index = self.index.block(layer);
        let normed = self.norm(stream.clone(), &weights[index.attention_norm]);
        let stream = stream + wide(attention(layer, index, normed));
        let normed = self.norm(stream.clone(), &weights[index.feed_forward_norm]);
        stream + wide(self.feed_forward(weights, index, normed))
    }

    /// The normed stream that the output projection takes.
    pub(super) fn final_norm(&self, weights: &[Tensor<2>], stream: Tensor<2>) -> Tensor<2> {
        self.norm(stream, &weights[self.index.final_norm()])
    }

    fn attention(&self, weights: &[Tensor<2>], index: BlockIndex, normed: Tensor<2>) -> Tensor<2> {
        let [query, key, value] = self.heads(weights, index, normed, self.length, &self.rotation);
        self.attend(weights, index, query, key, value, None)
    }

    /// The scores of every token as the next one, `[rows, vocabulary]`, from a normed stream,
    /// `[rows, width]`.
    pub(super) fn logits(&self, weights: &[Tensor<2>], stream: Tensor<2>) -> Tensor<2> {
        wide(project(stream, &weights[self.index.head()]))
    }

    /// −log p of each of `targets`, `[sequences · length, 1]`; `inputs` and `targets` are
    /// `[sequences · length]`. At most `rows_at_once` rows have their scores in memory at once.
    pub(super) fn losses(
        &self,
        weights: &[Tensor<2>],
        inputs: Tensor<1, Int>,
        targets: Tensor<1, Int>,
        rows_at_once: usize,
    ) -> Tensor<2> {
        let stream = self.stream(weights, inputs);
        let streams = stream
            .split(rows_at_once, 0)
            .into_iter()
            .zip(targets.split(rows_at_once, 0));
        Tensor::cat(
            streams
                .map(|(stream, targets)| self.head_losses(weights, stream, targets))
                .collect(),
            0,
        )
    }

    /// −log p of each of `targets`, `[rows, 1]`, from a normed stream of `[rows, width]`.
    pub(super) fn head_losses(
        &self,
        weights: &[Tensor<2>],
        stream: Tensor<2>,
        targets: Tensor<1, Int>,
    ) -> Tensor<2> {
        let log_probabilities = activation::log_softmax(self.logits(weights, stream), 1);
        log_probabilities.gather(1, targets.unsqueeze_dim(1)).neg()
    }

    fn norm(&self, x: Tensor<2>, gain: &Tensor<2>) -> Tensor<2> {
        let root = x
            .clone()
            .square()
            .mean_dim(1)
            .add_scalar(self.spec.norm_epsilon())
            .sqrt();
        // The gradient of a product takes fewer passes than that of a quotient.
        x * root.recip() * gain.clone()
    }

    /// Rotated and scaled queries, rotated keys, and values, each
    /// `[sequences, heads, length, head width]`, of a normed stream, `[sequences · length, width]`.
    pub(super) fn heads(
        &self,
        weights: &[Tensor<2>],
        index: BlockIndex,
        normed: Tensor<2>,
        length: usize,
        rotation: &Rotation,
    ) -> [Tensor<4>; 3] {
        let spec = &self.spec;
        let sequences = normed.dims()[0] / length;
        let heads = |x: Tensor<2>, heads: usize| {
            x.reshape([sequences, length, heads, spec.head_width()])
                .swap_dims(1, 2)
        };
        let kind = weights[index.query].dtype();
        let mut query = wide(project(normed.clone(), &weights[index.query]));
        let mut key = wide(project(normed.clone(), &weights[index.key]));
        if let Some((query_norm, key_norm)) = index.query_key_norms {
            query = self.norm_heads(query, &weights[query_norm]);
            key = self.norm_heads(key, &weights[key_norm]);
        }
        let query = rotation.rotate_query(heads(query, spec.heads)).cast(kind);
        let key = rotation.rotate_key(heads(key, spec.kv_heads)).cast(kind);
        [
            query,
            key,
            heads(project(normed, &weights[index.value]), spec.kv_heads),
        ]
    }

    /// The projected output of attention, `[sequences · queries, width]`. A mask is
    /// `[1, 1, queries of all heads that share a key head, keys]`; without one, each query sees the
    /// keys up to its own position.
    pub(super) fn attend(
        &self,
        weights: &[Tensor<2>],
        index: BlockIndex,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        mask: Option<Tensor<4>>,
    ) -> Tensor<2> {
        let spec = &self.spec;
        let [sequences, _, queries, width] = query.dims();
        // Queries that share a key head are stacked, so that no key is copied.
        let grouped = [
            sequences,
            spec.kv_heads,
            spec.heads / spec.kv_heads * queries,
            width,
        ];
        let kind = value.dtype();
        let scores = wide(query.reshape(grouped).matmul(key.swap_dims(2, 3)));
        let attended = match mask.or_else(|| self.mask.clone()) {
            None => fused::attention_weights(scores).cast(kind).matmul(value),
            Some(mask) => {
                let scores = scores + mask;
                let likely = (scores.clone() - scores.detach().max_dim(3)).exp();
                // Normalising the output is cheaper than normalising the weights.
                wide(likely.clone().cast(kind).matmul(value)) * likely.sum_dim(3).recip()
            }
        };
        let attended = attended
            .reshape([sequences, spec.heads, queries, width])
            .swap_dims(1, 2)
            .reshape([sequences * queries, spec.query_width()]);
        project(attended, &weights[index.output])
    }

    fn feed_forward(
        &self,
        weights: &[Tensor<2>],
        index: BlockIndex,
        normed: Tensor<2>,
    ) -> Tensor<2> {
        let gates = project(normed.clone(), &weights[index.gate]);
        let ups = project(normed, &weights[index.up]);
        let is_fused = self.mask.is_none();
        let gated = if is_fused {
            fused::gated(wide(gates), wide(ups))
        } else {
            activation::silu(gates) * ups
        };
        project(gated, &weights[index.down])
    }

    /// Normalises each head of `[rows, heads · head width]` separately, with one gain for all.
    fn norm_heads(&self, x: Tensor<2>, gain: &Tensor<2>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let head = self.spec.head_width();
        self.norm(x.reshape([rows * width / head, head]), gain)
            .reshape([rows, width])
    }
}

/// The causal mask that is added to scores, `[1, 1, queries of all heads that share a key head,
/// keys]`: 0 where a query may see a key, [`HIDDEN`] elsewhere. Each head has `count` queries; the
/// first sees `from` keys and its own.
pub(super) fn causal_mask(
    spec: &ModelSpec,
    from: usize,
    count: usize,
    keys: usize,
    device: &Device,
) -> Tensor<4> {
    let rows = spec.heads / spec.kv_heads * count;
    let row = |row: usize| {
        (0..keys).map(move |key| {
            if key <= from + row % count {
                0.0
            } else {
                HIDDEN
            }
        })
    };
    let mask: Vec<f32> = (0..rows).flat_map(row).collect();
    Tensor::from_data(TensorData::new(mask, [1, 1, rows, keys]), device)
}

/// x · weightᵗ for a weight `[out, in]`, in the weight's type.
fn project(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    x.cast(weight.dtype()).matmul(weight.clone().transpose())
}

/// The tensor in f32.
fn wide<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(DType::F32)
}
