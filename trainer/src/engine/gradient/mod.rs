//! Gradients in as little memory as the plan asks for.
//!
//! Three things need memory: the activations that each block stores for the backward pass, the
//! scores of every token at every position, and the number of sequences that multiplies both. Each
//! can be traded for time; the gradient stays the same up to rounding:
//!
//! - micro-batches, one after the other (gradient accumulation);
//! - scores and their loss a few rows at a time, never `[all rows, vocabulary]`;
//! - blocks that store only their input and are recomputed in the backward pass (activation
//!   checkpointing; Chen et al., 2016, <https://arxiv.org/abs/1604.06174>).
//!
//! Blocks that are recomputed can also take all micro-batches of a step, one after the other,
//! before the next block does. The inputs of the blocks are stored for all micro-batches then, but
//! each gradient is complete before it leaves the device: it crosses to host memory once a step.

use std::slice;

use burn::tensor::{Device, FloatDType, Gradients as Backward, Int, Tensor};

use crate::engine::model::Model;
use crate::engine::sums::{Accumulate, Rows};

/// The most scores in memory at once: 64 MiB of them.
pub(crate) const SCORES_AT_ONCE: usize = 1 << 24;

/// Fewer scores at once save nothing worth having.
const LEAST_SCORES: usize = 1 << 18;

/// What a step trades for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TradeOff {
    /// The most sequences in one micro-batch.
    pub sequences: usize,
    /// Whether to recompute blocks in the backward pass.
    pub recompute: bool,
    /// Whether blocks that are recomputed take all micro-batches before the next block does.
    pub by_block: bool,
    /// The most scores in memory at once.
    pub scores: usize,
}

impl Default for TradeOff {
    fn default() -> Self {
        Self {
            sequences: usize::MAX,
            recompute: false,
            by_block: false,
            scores: SCORES_AT_ONCE,
        }
    }
}

impl TradeOff {
    /// The next trade-off that needs less memory for a batch of `sequences`, if any is left.
    pub(super) fn reduced(self, sequences: usize) -> Option<Self> {
        match self.sequences.min(sequences) {
            0 | 1 if self.recompute && self.by_block => Some(Self {
                by_block: false,
                ..self
            }),
            0 | 1 if self.recompute => None,
            0 | 1 => Some(Self {
                recompute: true,
                ..self
            }),
            sequences => Some(Self {
                sequences: sequences.div_ceil(2),
                ..self
            }),
        }
    }
}

impl TradeOff {
    /// The next trade-off that needs less memory for the losses of a batch, without gradients, if
    /// any is left.
    pub(super) fn reduced_forward(self, sequences: usize) -> Option<Self> {
        match self.sequences.min(sequences) {
            0 | 1 if self.scores <= LEAST_SCORES => None,
            0 | 1 => Some(Self {
                scores: self.scores / 4,
                ..self
            }),
            sequences => Some(Self {
                sequences: sequences.div_ceil(2),
                ..self
            }),
        }
    }
}

/// The gradient of a loss with respect to every tensor, and the loss, `[1]`.
pub(super) struct Gradients<'a> {
    /// What is not handed on yet; a sum of several is in f32.
    of: Vec<Option<Tensor<2>>>,
    /// Where gradients are summed up, if not here.
    sink: Option<&'a dyn Accumulate>,
    pub loss: Tensor<1>,
}

impl<'a> Gradients<'a> {
    fn new(options: &GradientOptions<'a>, tensors: usize, loss: Tensor<1>) -> Self {
        Self {
            of: vec![None; tensors],
            sink: options.sink,
            loss,
        }
    }

    fn add(&mut self, tensor: usize, gradient: Tensor<2>) {
        self.of[tensor] = Some(match self.of[tensor].take() {
            Some(before) => before.cast(FloatDType::F32) + gradient.cast(FloatDType::F32),
            None => gradient,
        });
    }

    /// Adds `values`, in f32, to rows of the gradient of a tensor whose weights are `weight`.
    fn add_rows(
        &mut self,
        (tensor, weight): (usize, &Tensor<2>),
        rows: &Rows<'_>,
        values: Tensor<2>,
    ) {
        if let Some(sink) = self.sink {
            return sink.add_rows(tensor, rows, values);
        }
        let before = match self.of[tensor].take() {
            Some(before) => before.cast(FloatDType::F32),
            None => Tensor::zeros(weight.dims(), &values.device()),
        };
        self.of[tensor] = Some(rows.add_to(before, values));
    }

    /// Passes on what was added so far, if gradients are summed up elsewhere.
    fn hand_on(&mut self) {
        let Some(sink) = self.sink else { return };
        let found = self.of.iter_mut().enumerate();
        sink.add(
            found
                .filter_map(|(tensor, sum)| Some((tensor, sum.take()?)))
                .collect(),
        );
    }

    /// Adds the gradients and the loss of another part of the batch.
    pub(super) fn join(mut self, other: Self) -> Self {
        for (tensor, gradient) in other.of.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                self.add(tensor, gradient);
            }
        }
        self.loss = self.loss + other.loss;
        self
    }

    /// One gradient for each tensor, in f32; zeros for a tensor that the loss does not depend on.
    pub(super) fn into_tensors(self, weights: &[Tensor<2>]) -> Vec<Tensor<2>> {
        self.of
            .into_iter()
            .zip(weights)
            .map(|(gradient, weight)| {
                let gradient = gradient.unwrap_or_else(|| weight.zeros_like());
                gradient.cast(FloatDType::F32)
            })
            .collect()
    }
}

/// All weights, some of them leaves to differentiate.
struct Leaves {
    tensors: Vec<Tensor<2>>,
    differentiated: Vec<usize>,
}

impl Leaves {
    fn new(weights: &[Tensor<2>], differentiated: impl IntoIterator<Item = usize>) -> Self {
        let mut tensors = weights.to_vec();
        let differentiated: Vec<usize> = differentiated.into_iter().collect();
        for tensor in &differentiated {
            tensors[*tensor] = tensors[*tensor].clone().autodiff().require_grad();
        }
        Self {
            tensors,
            differentiated,
        }
    }

    fn collect(&self, backward: &mut Backward, gradients: &mut Gradients<'_>) {
        for tensor in &self.differentiated {
            if let Some(gradient) = self.tensors[*tensor].grad_remove(backward) {
                gradients.add(*tensor, gradient);
            }
        }
    }
}

/// How to compute gradients, and where to sum them up.
#[derive(Clone, Copy)]
pub(super) struct GradientOptions<'a> {
    pub trade_off: TradeOff,
    /// Where to add each gradient as soon as it is computed; `None` to keep them all.
    pub sink: Option<&'a dyn Accumulate>,
}

/// A part of a batch on the device.
pub(super) struct Part {
    /// The tokens that go in, in host memory.
    pub tokens: Vec<u32>,
    /// The same, `[sequences · length]`.
    pub inputs: Tensor<1, Int>,
    /// `[sequences · length]`
    pub targets: Tensor<1, Int>,
    /// Factors of the losses, `[sequences · length, 1]`; `None` if each is 1.
    pub target_weights: Option<Tensor<2>>,
    /// Factor of each loss.
    pub scale: f32,
}

impl Model {
    /// The gradient of the scaled sum of a part's losses.
    pub(super) fn gradients<'a>(
        &self,
        weights: &[Tensor<2>],
        part: &Part,
        options: &GradientOptions<'a>,
    ) -> Gradients<'a> {
        if options.trade_off.recompute {
            return self.gradients_recomputed(weights, slice::from_ref(part), options);
        }
        let leaves = Leaves::new(weights, 0..weights.len());
        let embedded = leaf(self.embed(weights, part.inputs.clone()));
        let stream = self.stream_from(&leaves.tensors, embedded.clone());
        let mut gradients = Gradients::new(options, weights.len(), part.zero_loss());
        let rows = part.targets.dims()[0];
        let mut backward = if rows <= self.rows_at_once(&options.trade_off) {
            let losses = self.head_losses(&leaves.tensors, stream, part.targets.clone());
            let loss = part.scaled_sum(losses, 0);
            gradients.loss = loss.clone().inner();
            loss.backward()
        } else {
            let normed = stream.clone().inner();
            let above =
                self.head_gradients(weights, normed, part, &options.trade_off, &mut gradients);
            gradients.hand_on();
            backward_from(stream, above)
        };
        leaves.collect(&mut backward, &mut gradients);
        let above = embedded.grad_remove(&mut backward);
        self.embedding_gradient(weights, part, above, &mut gradients);
        gradients.hand_on();
        gradients
    }

    /// The gradient of the scaled sum of the losses of several parts, of which each block stores
    /// only its input. A block takes all parts before the next one does.
    pub(super) fn gradients_recomputed<'a>(
        &self,
        weights: &[Tensor<2>],
        parts: &[Part],
        options: &GradientOptions<'a>,
    ) -> Gradients<'a> {
        let index = self.index();
        let mut gradients = Gradients::new(options, weights.len(), zero_loss(&weights[0].device()));
        let mut streams: Vec<_> = parts
            .iter()
            .map(|part| self.streams(weights, part))
            .collect();

        // Backward from the scores to the stream after the last block …
        let mut above = Vec::new();
        for (part, streams) in parts.iter().zip(&mut streams) {
            let last = streams.pop().map(leaf);
            above.push(last.and_then(|last| {
                let norm = Leaves::new(weights, [index.final_norm()]);
                let normed = self.final_norm(&norm.tensors, last.clone());
                let trade_off = &options.trade_off;
                let plain = normed.clone().inner();
                let above = self.head_gradients(weights, plain, part, trade_off, &mut gradients);
                let mut backward = backward_from(normed, above);
                norm.collect(&mut backward, &mut gradients);
                last.grad_remove(&mut backward)
            }));
        }
        gradients.hand_on();

        // … and block by block to the embedding.
        for layer in (0..self.spec().layers).rev() {
            for (streams, above) in streams.iter_mut().zip(&mut above) {
                let (Some(stream), Some(gradient)) = (streams.pop(), above.take()) else {
                    continue;
                };
                let stream = leaf(stream);
                let leaves = Leaves::new(weights, index.block(layer).tensors());
                let output = self.block(&leaves.tensors, layer, stream.clone());
                let mut backward = backward_from(output, gradient);
                leaves.collect(&mut backward, &mut gradients);
                *above = stream.grad_remove(&mut backward);
            }
            gradients.hand_on();
        }
        for (part, above) in parts.iter().zip(above) {
            self.embedding_gradient(weights, part, above, &mut gradients);
        }
        gradients
    }

    /// The stream of a part before the first block and after each block.
    fn streams(&self, weights: &[Tensor<2>], part: &Part) -> Vec<Tensor<2>> {
        let mut streams = vec![self.embed(weights, part.inputs.clone())];
        for layer in 0..self.spec().layers {
            streams.push(self.block(weights, layer, streams[layer].clone()));
        }
        streams
    }

    /// Adds the gradient of the stream before the first block to the embedding's rows, in f32:
    /// 16 bits would round away the sums of frequent tokens.
    fn embedding_gradient(
        &self,
        weights: &[Tensor<2>],
        part: &Part,
        above: Option<Tensor<2>>,
        gradients: &mut Gradients<'_>,
    ) {
        let Some(above) = above else { return };
        let above = match self.embedding_factor() {
            Some(factor) => above.mul_scalar(factor),
            None => above,
        };
        let rows = Rows {
            on_host: &part.tokens,
            on_device: &part.inputs,
        };
        let embedding = self.index().embedding();
        gradients.add_rows((embedding, &weights[embedding]), &rows, above);
    }

    /// Adds the gradient of the output projection and the loss. Returns the gradient of the normed
    /// stream, `[rows, width]`. Both are computed for a few rows at a time.
    fn head_gradients(
        &self,
        weights: &[Tensor<2>],
        normed: Tensor<2>,
        part: &Part,
        trade_off: &TradeOff,
        gradients: &mut Gradients<'_>,
    ) -> Tensor<2> {
        let rows = normed.dims()[0];
        let mut above = Vec::new();
        let mut start = 0;
        while start < rows {
            let count = self.rows_at_once(trade_off).min(rows - start);
            let leaves = Leaves::new(weights, [self.index().head()]);
            let some = leaf(normed.clone().narrow(0, start, count));
            let targets = part.targets.clone().narrow(0, start, count);
            let losses = self.head_losses(&leaves.tensors, some.clone(), targets);
            let loss = part.scaled_sum(losses, start);
            gradients.loss = gradients.loss.clone() + loss.clone().inner();
            let mut backward = loss.backward();
            leaves.collect(&mut backward, gradients);
            above.push(
                some.grad_remove(&mut backward)
                    .unwrap_or_else(|| some.clone().inner().zeros_like()),
            );
            start += count;
        }
        Tensor::cat(above, 0)
    }

    /// Rows whose scores may be in memory at once.
    pub(super) fn rows_at_once(&self, trade_off: &TradeOff) -> usize {
        (trade_off.scores / self.spec().vocabulary).max(1)
    }
}

impl Part {
    /// The sum of losses that are differentiated, of the rows from `start` on, with their factors.
    fn scaled_sum(&self, losses: Tensor<2>, start: usize) -> Tensor<1> {
        let rows = losses.dims()[0];
        let counted = match &self.target_weights {
            Some(weights) => losses * weights.clone().narrow(0, start, rows).autodiff(),
            None => losses,
        };
        counted.sum().mul_scalar(self.scale)
    }

    fn zero_loss(&self) -> Tensor<1> {
        zero_loss(&self.inputs.device())
    }
}

fn zero_loss(device: &Device) -> Tensor<1> {
    Tensor::zeros([1], device)
}

/// A leaf of a new autodiff graph.
fn leaf(tensor: Tensor<2>) -> Tensor<2> {
    tensor.autodiff().require_grad()
}

/// The gradients of everything that `output` depends on, given its own gradient `above`.
fn backward_from(output: Tensor<2>, above: Tensor<2>) -> Backward {
    (output * above.autodiff()).sum().backward()
}

#[cfg(test)]
mod tests;
