//! One pass through the model for a share of a batch: activations forward, gradients backward.

use std::ops::Range;

use weal_kernels::Layout;

use super::attention::{Attention, InputGradients, Inputs, Outputs, Scratch};
use super::matmul::{Matrix, MatrixMut};
use super::simd;
use crate::engine::rope::RotaryTable;
use crate::spec::{BlockIndex, ModelSpec, TensorIndex};

/// What a pass needs to know of the model besides its weights.
pub(super) struct Plan {
    pub spec: ModelSpec,
    pub index: TensorIndex,
    /// Where each tensor lies in the flat vector.
    pub ranges: Vec<Range<usize>>,
    /// Which tensors are matrices; the others are gains of norms.
    pub is_matrix: Vec<bool>,
    pub rotary: RotaryTable,
}

impl Plan {
    pub fn new(spec: &ModelSpec, layout: &Layout) -> Self {
        Self {
            spec: spec.clone(),
            index: TensorIndex::new(spec),
            ranges: layout.ranges().collect(),
            is_matrix: layout.tensors().iter().map(|tensor| tensor.shape.len() == 2).collect(),
            rotary: RotaryTable::new(spec),
        }
    }

    fn range(&self, tensor: usize) -> Range<usize> {
        self.ranges[tensor].clone()
    }
}

/// A share of a batch: whole sequences, their inputs and targets one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub inputs: Vec<u32>,
    pub targets: Vec<u32>,
    /// Tokens of a sequence.
    pub length: usize,
}

/// Activations of one block that its backward pass needs. `[rows, ·]`, a row for each token.
#[derive(Default)]
struct BlockActivations {
    input: Vec<f32>,
    inverse1: Vec<f32>,
    normed1: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    log_sums: Vec<f32>,
    attended: Vec<f32>,
    middle: Vec<f32>,
    inverse2: Vec<f32>,
    normed2: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    gated: Vec<f32>,
}

/// The buffers of a pass; they are made once and used again.
#[derive(Default)]
pub(super) struct Pass {
    blocks: Vec<BlockActivations>,
    /// The residual stream, and in the backward pass its gradient.
    stream: Vec<f32>,
    last: Vec<f32>,
    inverse: Vec<f32>,
    normed: Vec<f32>,
    logits: Vec<f32>,
    d_wide: Vec<f32>,
    d_narrow: Vec<f32>,
    d_query: Vec<f32>,
    d_key: Vec<f32>,
    d_value: Vec<f32>,
    scratch: Scratch,
    /// Rows that the buffers are sized for.
    rows: usize,
}

impl Pass {
    /// Makes every buffer as long as `rows` tokens need.
    fn resize(&mut self, spec: &ModelSpec, rows: usize) {
        if self.rows == rows {
            return;
        }
        self.rows = rows;
        let (width, kv, wide) = (spec.width, spec.kv_width(), spec.feed_forward);
        self.blocks.resize_with(spec.layers, Default::default);
        for block in &mut self.blocks {
            for buffer in [&mut block.input, &mut block.normed1, &mut block.query, &mut block.attended] {
                buffer.resize(rows * width, 0.0);
            }
            for buffer in [&mut block.middle, &mut block.normed2] {
                buffer.resize(rows * width, 0.0);
            }
            for buffer in [&mut block.key, &mut block.value] {
                buffer.resize(rows * kv, 0.0);
            }
            for buffer in [&mut block.gate, &mut block.up, &mut block.gated] {
                buffer.resize(rows * wide, 0.0);
            }
            block.inverse1.resize(rows, 0.0);
            block.inverse2.resize(rows, 0.0);
            block.log_sums.resize(rows * spec.heads, 0.0);
        }
        for buffer in [&mut self.stream, &mut self.last, &mut self.normed, &mut self.d_narrow, &mut self.d_query] {
            buffer.resize(rows * width, 0.0);
        }
        self.d_key.resize(rows * kv, 0.0);
        self.d_value.resize(rows * kv, 0.0);
        self.d_wide.resize(rows * wide, 0.0);
        self.inverse.resize(rows, 0.0);
        self.logits.resize(rows * spec.vocabulary, 0.0);
    }

    /// Runs the model forward over `inputs`, sequences of `length` tokens each; afterwards `self.normed` holds the
    /// normed stream `[rows, width]`.
    fn run_blocks(&mut self, plan: &Plan, weights: &[f32], inputs: &[u32], length: usize) {
        let spec = &plan.spec;
        self.resize(spec, inputs.len());
        let embedding = &weights[plan.range(plan.index.embedding())];
        for (row, token) in self.stream.chunks_exact_mut(spec.width).zip(inputs) {
            row.copy_from_slice(&embedding[*token as usize * spec.width..][..spec.width]);
        }
        for layer in 0..spec.layers {
            let tensors = BlockWeights::new(plan, weights, plan.index.block(layer));
            self.blocks[layer].forward(plan, &tensors, length, &mut self.scratch, &mut self.stream);
        }
        self.last.copy_from_slice(&self.stream);
        let gain = &weights[plan.range(plan.index.final_norm())];
        norm_rows(&self.last, gain, spec.norm_epsilon(), &mut self.normed, &mut self.inverse);
    }

    /// The scores of every token as the next one after each of `inputs`, one sequence: the last row alone, `[vocabulary]`.
    pub fn last_logits(&mut self, plan: &Plan, weights: &[f32], inputs: &[u32]) -> Vec<f32> {
        let (width, vocabulary) = (plan.spec.width, plan.spec.vocabulary);
        self.run_blocks(plan, weights, inputs, inputs.len());
        let mut logits = vec![0.0; vocabulary];
        let last = &self.normed[(inputs.len() - 1) * width..][..width];
        let head = &weights[plan.range(plan.index.head())];
        MatrixMut::new(&mut logits, 1, vocabulary)
            .set(Matrix::new(last, 1, width), Matrix::new(head, vocabulary, width).t());
        logits
    }

    /// The sum of the losses of all targets, in nats.
    pub fn loss(&mut self, plan: &Plan, weights: &[f32], share: &Share) -> f64 {
        self.forward(plan, weights, share);
        let rows = self.logits.chunks_exact_mut(plan.spec.vocabulary);
        rows.zip(&share.targets)
            .map(|(logits, target)| {
                let score = logits[*target as usize];
                f64::from(simd::softmax(logits, 1.0) - score)
            })
            .sum()
    }

    fn forward(&mut self, plan: &Plan, weights: &[f32], share: &Share) {
        self.run_blocks(plan, weights, &share.inputs, share.length);
        let (rows, width, vocabulary) = (share.inputs.len(), plan.spec.width, plan.spec.vocabulary);
        let head = &weights[plan.range(plan.index.head())];
        MatrixMut::new(&mut self.logits, rows, vocabulary)
            .set(Matrix::new(&self.normed, rows, width), Matrix::new(head, vocabulary, width).t());
    }

    /// Adds the gradient of `scale` · (sum of the losses) to `gradient`; gives back the sum of the losses, in nats.
    pub fn backward(&mut self, plan: &Plan, weights: &[f32], share: &Share, scale: f32, gradient: &mut [f32]) -> f64 {
        let loss = self.loss(plan, weights, share);
        self.backward_head(plan, weights, share, scale, gradient);
        for layer in (0..plan.spec.layers).rev() {
            let index = plan.index.block(layer);
            let tensors = BlockWeights::new(plan, weights, index);
            self.backward_feed_forward(plan, layer, &tensors, gradient);
            self.backward_attention(plan, layer, &tensors, share.length, gradient);
        }
        let width = plan.spec.width;
        let embedding = &mut gradient[plan.range(plan.index.embedding())];
        for (row, token) in self.stream.chunks_exact(width).zip(&share.inputs) {
            simd::add(&mut embedding[*token as usize * width..][..width], row);
        }
        loss
    }

    /// From the probabilities that [`Self::loss`] left in `logits` to the gradient of the residual stream.
    fn backward_head(&mut self, plan: &Plan, weights: &[f32], share: &Share, scale: f32, gradient: &mut [f32]) {
        let (rows, width, vocabulary) = (share.inputs.len(), plan.spec.width, plan.spec.vocabulary);
        for (row, target) in self.logits.chunks_exact_mut(vocabulary).zip(&share.targets) {
            row[*target as usize] -= 1.0;
            simd::multiply(row, scale);
        }
        let d_logits = Matrix::new(&self.logits, rows, vocabulary);
        let head = plan.range(plan.index.head());
        MatrixMut::new(&mut gradient[head.clone()], vocabulary, width)
            .add(d_logits.t(), Matrix::new(&self.normed, rows, width));
        MatrixMut::new(&mut self.d_narrow, rows, width).set(d_logits, Matrix::new(&weights[head], vocabulary, width));
        self.stream.fill(0.0);
        let norm = plan.range(plan.index.final_norm());
        let backward = NormBackward { x: &self.last, gain: &weights[norm.clone()], inverse: &self.inverse };
        backward.run(&self.d_narrow, &mut self.stream, &mut gradient[norm]);
    }

    /// Adds to the gradient of the stream what flows back through a block's feed-forward half.
    fn backward_feed_forward(&mut self, plan: &Plan, layer: usize, tensors: &BlockWeights, gradient: &mut [f32]) {
        let (width, wide) = (plan.spec.width, plan.spec.feed_forward);
        let rows = self.rows;
        let (index, block) = (plan.index.block(layer), &mut self.blocks[layer]);
        let stream = Matrix::new(&self.stream, rows, width);

        MatrixMut::new(&mut gradient[plan.range(index.down)], width, wide)
            .add(stream.t(), Matrix::new(&block.gated, rows, wide));
        MatrixMut::new(&mut self.d_wide, rows, wide).set(stream, Matrix::new(tensors.down, width, wide));
        simd::swiglu_backward(&self.d_wide, &mut block.gate, &mut block.up);

        let (d_gate, d_up) = (Matrix::new(&block.gate, rows, wide), Matrix::new(&block.up, rows, wide));
        let normed = Matrix::new(&block.normed2, rows, width);
        MatrixMut::new(&mut gradient[plan.range(index.gate)], wide, width).add(d_gate.t(), normed);
        MatrixMut::new(&mut gradient[plan.range(index.up)], wide, width).add(d_up.t(), normed);
        MatrixMut::new(&mut self.d_narrow, rows, width).set(d_gate, Matrix::new(tensors.gate, wide, width));
        MatrixMut::new(&mut self.d_narrow, rows, width).add(d_up, Matrix::new(tensors.up, wide, width));

        let backward = NormBackward { x: &block.middle, gain: tensors.feed_forward_norm, inverse: &block.inverse2 };
        backward.run(&self.d_narrow, &mut self.stream, &mut gradient[plan.range(index.feed_forward_norm)]);
    }

    /// Adds to the gradient of the stream what flows back through a block's attention half.
    fn backward_attention(
        &mut self,
        plan: &Plan,
        layer: usize,
        tensors: &BlockWeights,
        length: usize,
        gradient: &mut [f32],
    ) {
        let (width, kv, rows) = (plan.spec.width, plan.spec.kv_width(), self.rows);
        let (index, block) = (plan.index.block(layer), &self.blocks[layer]);
        let stream = Matrix::new(&self.stream, rows, width);
        MatrixMut::new(&mut gradient[plan.range(index.output)], width, width)
            .add(stream.t(), Matrix::new(&block.attended, rows, width));
        MatrixMut::new(&mut self.d_narrow, rows, width).set(stream, Matrix::new(tensors.output, width, width));

        for sequence in 0..rows / length {
            let (queries, keys) = (slice_of(sequence, length * width), slice_of(sequence, length * kv));
            let inputs = Inputs {
                query: &block.query[queries.clone()],
                key: &block.key[keys.clone()],
                value: &block.value[keys.clone()],
            };
            let outputs = Outputs {
                output: &block.attended[queries.clone()],
                log_sums: &block.log_sums[slice_of(sequence, length * plan.spec.heads)],
            };
            let gradients = InputGradients {
                query: &mut self.d_query[queries.clone()],
                key: &mut self.d_key[keys.clone()],
                value: &mut self.d_value[keys],
            };
            let d_output = &self.d_narrow[queries];
            attention(&plan.spec, length).backward(inputs, outputs, d_output, &mut self.scratch, gradients);
        }
        rotate_rows(plan, &mut self.d_query, width, length, -1.0);
        rotate_rows(plan, &mut self.d_key, kv, length, -1.0);

        let normed = Matrix::new(&block.normed1, rows, width);
        let projections = [
            (&self.d_query, index.query, tensors.query, width),
            (&self.d_key, index.key, tensors.key, kv),
            (&self.d_value, index.value, tensors.value, kv),
        ];
        self.d_narrow.fill(0.0);
        for (d, tensor, weight, outputs) in projections {
            let d = Matrix::new(d, rows, outputs);
            MatrixMut::new(&mut gradient[plan.range(tensor)], outputs, width).add(d.t(), normed);
            MatrixMut::new(&mut self.d_narrow, rows, width).add(d, Matrix::new(weight, outputs, width));
        }
        let backward = NormBackward { x: &block.input, gain: tensors.attention_norm, inverse: &block.inverse1 };
        backward.run(&self.d_narrow, &mut self.stream, &mut gradient[plan.range(index.attention_norm)]);
    }
}

/// The weights of one block; matrices are `[out, in]`.
struct BlockWeights<'a> {
    query: &'a [f32],
    key: &'a [f32],
    value: &'a [f32],
    output: &'a [f32],
    gate: &'a [f32],
    up: &'a [f32],
    down: &'a [f32],
    attention_norm: &'a [f32],
    feed_forward_norm: &'a [f32],
}

impl<'a> BlockWeights<'a> {
    fn new(plan: &Plan, weights: &'a [f32], index: BlockIndex) -> Self {
        let tensor = |tensor: usize| &weights[plan.range(tensor)];
        Self {
            query: tensor(index.query),
            key: tensor(index.key),
            value: tensor(index.value),
            output: tensor(index.output),
            gate: tensor(index.gate),
            up: tensor(index.up),
            down: tensor(index.down),
            attention_norm: tensor(index.attention_norm),
            feed_forward_norm: tensor(index.feed_forward_norm),
        }
    }
}

impl BlockActivations {
    /// Adds the block's output to the residual stream `[rows, width]`.
    fn forward(
        &mut self,
        plan: &Plan,
        tensors: &BlockWeights,
        length: usize,
        scratch: &mut Scratch,
        stream: &mut [f32],
    ) {
        let spec = &plan.spec;
        let (width, kv, wide) = (spec.width, spec.kv_width(), spec.feed_forward);
        let rows = stream.len() / width;

        self.input.copy_from_slice(stream);
        norm_rows(stream, tensors.attention_norm, spec.norm_epsilon(), &mut self.normed1, &mut self.inverse1);
        let normed = Matrix::new(&self.normed1, rows, width);
        MatrixMut::new(&mut self.query, rows, width).set(normed, Matrix::new(tensors.query, width, width).t());
        MatrixMut::new(&mut self.key, rows, kv).set(normed, Matrix::new(tensors.key, kv, width).t());
        MatrixMut::new(&mut self.value, rows, kv).set(normed, Matrix::new(tensors.value, kv, width).t());
        rotate_rows(plan, &mut self.query, width, length, 1.0);
        rotate_rows(plan, &mut self.key, kv, length, 1.0);
        for sequence in 0..rows / length {
            let (queries, keys) = (slice_of(sequence, length * width), slice_of(sequence, length * kv));
            let inputs =
                Inputs { query: &self.query[queries.clone()], key: &self.key[keys.clone()], value: &self.value[keys] };
            let log_sums = &mut self.log_sums[slice_of(sequence, length * spec.heads)];
            attention(spec, length).forward(inputs, scratch, &mut self.attended[queries], log_sums);
        }
        MatrixMut::new(stream, rows, width)
            .add(Matrix::new(&self.attended, rows, width), Matrix::new(tensors.output, width, width).t());

        self.middle.copy_from_slice(stream);
        norm_rows(stream, tensors.feed_forward_norm, spec.norm_epsilon(), &mut self.normed2, &mut self.inverse2);
        let normed = Matrix::new(&self.normed2, rows, width);
        MatrixMut::new(&mut self.gate, rows, wide).set(normed, Matrix::new(tensors.gate, wide, width).t());
        MatrixMut::new(&mut self.up, rows, wide).set(normed, Matrix::new(tensors.up, wide, width).t());
        simd::swiglu(&self.gate, &self.up, &mut self.gated);
        MatrixMut::new(stream, rows, width)
            .add(Matrix::new(&self.gated, rows, wide), Matrix::new(tensors.down, width, wide).t());
    }
}

/// What the backward pass of a norm needs of its forward pass.
struct NormBackward<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    inverse: &'a [f32],
}

impl NormBackward<'_> {
    /// Adds to `dx` and `dgain` what `dy` asks for, row by row.
    fn run(&self, dy: &[f32], dx: &mut [f32], dgain: &mut [f32]) {
        let width = self.gain.len();
        let rows = dy.chunks_exact(width).zip(self.x.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((dy, x), dx), inverse) in rows.zip(self.inverse) {
            simd::rms_norm_backward(dy, x, self.gain, *inverse, dx, dgain);
        }
    }
}

fn norm_rows(x: &[f32], gain: &[f32], epsilon: f32, y: &mut [f32], inverse: &mut [f32]) {
    let width = gain.len();
    for ((x, y), inverse) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(inverse) {
        *inverse = simd::rms_norm(x, gain, epsilon, y);
    }
}

/// Turns every head of `[rows, width]` by the angle of its row's position; sequences have `length` rows.
fn rotate_rows(plan: &Plan, data: &mut [f32], width: usize, length: usize, direction: f32) {
    for (row, values) in data.chunks_exact_mut(width).enumerate() {
        let (cos, sin) = plan.rotary.at(row % length);
        for head in values.chunks_exact_mut(plan.spec.head_width()) {
            simd::rotate(head, cos, sin, direction);
        }
    }
}

fn attention(spec: &ModelSpec, length: usize) -> Attention {
    Attention { length, heads: spec.heads, kv_heads: spec.kv_heads, head_width: spec.head_width() }
}

/// The range of `sequence` where every sequence has `values` values.
fn slice_of(sequence: usize, values: usize) -> Range<usize> {
    sequence * values..(sequence + 1) * values
}
