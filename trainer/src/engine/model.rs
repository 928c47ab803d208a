//! The model's forward pass in burn's tensors, with automatic differentiation on any device.
//!
//! Matrix products are in the type of the weights, f32, f16 or bf16. Everything else is f32: the
//! residual stream, norms, rotary positions, softmax, losses. Casting a tensor to its own type
//! costs nothing.

use burn::tensor::{DType, Device, Int, Tensor, activation};

use crate::engine::attention::Attention;
use crate::engine::fused;
use crate::engine::rope::Rotations;
use crate::features::{Activation, QueryKeyNorm};
use crate::spec::ModelSpec;
use crate::tensor_index::{BlockIndex, Projection, TensorIndex};

/// The parts of the model that are not learnt, for windows of one length.
#[derive(Clone)]
pub(super) struct Model {
    spec: ModelSpec,
    index: TensorIndex,
    length: usize,
    rotations: Rotations,
    attention: Attention,
}

impl Model {
    /// The model for windows of `length` tokens.
    pub(super) fn new(spec: &ModelSpec, length: usize, device: &Device) -> Self {
        Self {
            index: TensorIndex::new(spec),
            length,
            rotations: Rotations::new(spec, length, device),
            attention: Attention::new(device),
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
        self.blocks(weights, stream, |layer, normed| {
            self.attention(weights, layer, normed)
        })
    }

    /// [`Self::stream_from`] with its attention computed by `attention`, which takes the block's
    /// number and its normed stream.
    pub(super) fn blocks(
        &self,
        weights: &[Tensor<2>],
        mut stream: Tensor<2>,
        mut attention: impl FnMut(usize, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        for layer in 0..self.spec.layers {
            stream = self.block_with(weights, layer, stream, &mut attention);
        }
        self.final_norm(weights, stream)
    }

    /// The stream before the first block, `[sequences · length, width]`.
    pub(super) fn embed(&self, weights: &[Tensor<2>], inputs: Tensor<1, Int>) -> Tensor<2> {
        let rows = wide(weights[self.index.embedding()].clone().select(0, inputs));
        match self.embedding_factor() {
            Some(factor) => rows.mul_scalar(factor),
            None => rows,
        }
    }

    /// What embeddings are multiplied by, if by anything.
    pub(super) fn embedding_factor(&self) -> Option<f32> {
        let is_scaled = self.spec.features.scaled_embedding;
        is_scaled.then(|| (self.spec.width as f32).sqrt())
    }

    /// The stream after one block.
    pub(super) fn block(
        &self,
        weights: &[Tensor<2>],
        layer: usize,
        stream: Tensor<2>,
    ) -> Tensor<2> {
        self.block_with(weights, layer, stream, &mut |layer, normed| {
            self.attention(weights, layer, normed)
        })
    }

    fn block_with(
        &self,
        weights: &[Tensor<2>],
        layer: usize,
        stream: Tensor<2>,
        attention: &mut impl FnMut(usize, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let index = self.index.block(layer);
        let norm = |x: Tensor<2>, gain: Option<usize>| match gain {
            Some(gain) => self.norm(x, &weights[gain]),
            None => x,
        };
        let [before, after] = index.attention_norms;
        let attended = attention(layer, norm(stream.clone(), before));
        let stream = stream + norm(wide(attended), after);
        let [before, after] = index.feed_forward_norms;
        let fed = self.feed_forward(weights, index, norm(stream.clone(), before));
        stream + norm(wide(fed), after)
    }

    /// The normed stream that the output projection takes.
    pub(super) fn final_norm(&self, weights: &[Tensor<2>], stream: Tensor<2>) -> Tensor<2> {
        self.norm(stream, &weights[self.index.final_norm()])
    }

    fn attention(&self, weights: &[Tensor<2>], layer: usize, normed: Tensor<2>) -> Tensor<2> {
        let inputs = self.heads(weights, layer, normed, &self.rotations);
        let attended = self.attention_of(layer, &self.attention).attend(inputs);
        self.attended(weights, layer, attended)
    }

    /// Attention as one layer computes it.
    pub(super) fn attention_of(&self, layer: usize, attention: &Attention) -> Attention {
        let mut attention = attention.clone();
        attention.window = self.spec.window(layer).unwrap_or(usize::MAX);
        attention.softcap = self.spec.features.score_cap_ppm.map(from_ppm);
        attention
    }

    /// The scores of every token as the next one, `[rows, vocabulary]`, from a normed stream,
    /// `[rows, width]`.
    pub(super) fn logits(&self, weights: &[Tensor<2>], stream: Tensor<2>) -> Tensor<2> {
        let logits = wide(project(stream, &weights[self.index.head()]));
        match self.spec.features.logit_cap_ppm.map(from_ppm) {
            Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
            None => logits,
        }
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
        let logits = self.logits(weights, stream);
        if !fused::is_cpu(&logits.device()) {
            return fused::gpu::cross_entropy(logits, targets);
        }
        let log_probabilities = activation::log_softmax(logits, 1);
        log_probabilities.gather(1, targets.unsqueeze_dim(1)).neg()
    }

    fn norm(&self, x: Tensor<2>, gain: &Tensor<2>) -> Tensor<2> {
        if !fused::is_cpu(&x.device()) {
            return fused::gpu::norm(x, gain.clone(), self.spec.norm_epsilon());
        }
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
    /// `[sequences, heads, length, head width]`, of a layer's normed stream,
    /// `[sequences · length, width]`.
    pub(super) fn heads(
        &self,
        weights: &[Tensor<2>],
        layer: usize,
        normed: Tensor<2>,
        rotations: &Rotations,
    ) -> [Tensor<4>; 3] {
        let (spec, index) = (&self.spec, self.index.block(layer));
        let kind = weights[index.query.matrix].dtype();
        // Once for all three products.
        let normed = normed.cast(kind);
        let projected = |projection| projected(weights, normed.clone(), projection);
        let (mut query, mut key) = (wide(projected(index.query)), wide(projected(index.key)));
        if let Some((query_norm, key_norm)) = index.query_key_norms {
            query = self.norm_heads(query, &weights[query_norm]);
            key = self.norm_heads(key, &weights[key_norm]);
        }
        let [query, key] = rotations.rotate(spec.layer_kind(layer), query, key);
        let value = rotations.heads(projected(index.value));
        [query.cast(kind), key.cast(kind), value.cast(kind)]
    }

    /// The projected output of attention, `[sequences · queries, width]`.
    pub(super) fn attended(
        &self,
        weights: &[Tensor<2>],
        layer: usize,
        attended: Tensor<4>,
    ) -> Tensor<2> {
        let [sequences, heads, queries, width] = attended.dims();
        let attended = attended
            .swap_dims(1, 2)
            .reshape([sequences * queries, heads * width]);
        projected(weights, attended, self.index.block(layer).output)
    }

    fn feed_forward(
        &self,
        weights: &[Tensor<2>],
        index: BlockIndex,
        normed: Tensor<2>,
    ) -> Tensor<2> {
        // Once for both products.
        let normed = normed.cast(weights[index.gate.matrix].dtype());
        let gates = projected(weights, normed.clone(), index.gate);
        let ups = projected(weights, normed, index.up);
        let gated = match self.spec.features.activation {
            Activation::Silu => fused::gated(gates, ups),
            Activation::GeluTanh => gelu_tanh(wide(gates)) * wide(ups),
        };
        projected(weights, gated, index.down)
    }

    /// Normalises `[rows, heads · head width]`: each head separately, with one gain for all, or all
    /// together.
    fn norm_heads(&self, x: Tensor<2>, gain: &Tensor<2>) -> Tensor<2> {
        if self.spec.query_key_norm == QueryKeyNorm::Whole {
            return self.norm(x, gain);
        }
        let [rows, width] = x.dims();
        let head = self.spec.head_width();
        self.norm(x.reshape([rows * width / head, head]), gain)
            .reshape([rows, width])
    }
}

/// GELU in its approximation by tanh: x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.
fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    let root = (2.0 / std::f64::consts::PI).sqrt();
    let cube = x.clone().square() * x.clone();
    let inner = (x.clone() + cube.mul_scalar(0.044_715)).mul_scalar(root);
    x * inner.tanh().add_scalar(1.0).mul_scalar(0.5)
}

fn from_ppm(ppm: u32) -> f32 {
    (f64::from(ppm) / 1e6) as f32
}

/// x · matrixᵗ, with the bias added if there is one.
fn projected(weights: &[Tensor<2>], x: Tensor<2>, projection: Projection) -> Tensor<2> {
    let product = project(x, &weights[projection.matrix]);
    match projection.bias {
        Some(bias) => wide(product) + weights[bias].clone(),
        None => product,
    }
}

/// x · weightᵗ for a weight `[out, in]`, in the weight's type.
fn project(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    x.cast(weight.dtype()).matmul(weight.clone().transpose())
}

/// The tensor in f32.
fn wide<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(DType::F32)
}
