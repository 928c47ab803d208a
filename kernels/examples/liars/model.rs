//! A small language model whose gradients fit on a page: it predicts a byte from the eight before
//! it, through one hidden layer. It learns real text with real gradients, and thousands of its
//! rounds run in a minute.

use weal_kernels::update::{AdamW, adamw};
use weal_kernels::{Error, Layout, TensorSpec};
use weal_testing::SplitMix64;

/// Bytes that the model sees.
pub(crate) const CONTEXT: usize = 8;
const BYTES: usize = 256;
const EMBEDDING: usize = 16;
const INPUT: usize = CONTEXT * EMBEDDING;
const HIDDEN: usize = 512;
/// The first value of each tensor in the flat vector of weights, and their end.
const STARTS: [usize; 6] = {
    let input = BYTES * EMBEDDING;
    let bias = input + INPUT * HIDDEN;
    let output = bias + HIDDEN;
    let output_bias = output + HIDDEN * BYTES;
    [0, input, bias, output, output_bias, output_bias + BYTES]
};
/// The number of weights.
pub(crate) const WEIGHTS: usize = STARTS[5];

/// The model's tensors.
pub(crate) fn layout() -> Result<Layout, Error> {
    Layout::new(vec![
        TensorSpec::new("embedding", [BYTES, EMBEDDING]),
        TensorSpec::new("input", [INPUT, HIDDEN]),
        TensorSpec::new("input bias", [HIDDEN]),
        TensorSpec::new("output", [HIDDEN, BYTES]),
        TensorSpec::new("output bias", [BYTES]),
    ])
}

/// Random initial weights.
pub(crate) fn initial(seed: u64) -> Vec<f32> {
    let mut random = SplitMix64(seed);
    let mut draw = |scale: f32| (unit(&mut random) * 2.0 - 1.0) * scale;
    let mut weights = vec![0.0; WEIGHTS];
    weights[STARTS[0]..STARTS[1]].fill_with(|| draw(1.0));
    weights[STARTS[1]..STARTS[2]].fill_with(|| draw((3.0 / INPUT as f32).sqrt()));
    weights[STARTS[3]..STARTS[4]].fill_with(|| draw((3.0 / HIDDEN as f32).sqrt()));
    weights
}

/// A number from 0 to 1.
pub(crate) fn unit(random: &mut SplitMix64) -> f32 {
    (random.next() >> 40) as f32 / (1_u64 << 24) as f32
}

/// One example: the bytes before, and the byte to predict.
pub(crate) type Example = ([u8; CONTEXT], u8);

/// What the backward pass needs of the forward pass, reused between examples.
pub(crate) struct Buffers {
    input: Vec<f32>,
    hidden: Vec<f32>,
    output: Vec<f32>,
    gradients: Vec<f32>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            input: vec![0.0; INPUT],
            hidden: vec![0.0; HIDDEN],
            output: vec![0.0; BYTES],
            gradients: vec![0.0; WEIGHTS],
        }
    }
}

impl Buffers {
    /// The loss on one example, in nats. Leaves the probabilities in `output`.
    fn forward(&mut self, weights: &[f32], (context, target): &Example) -> f32 {
        for (slot, byte) in self.input.chunks_mut(EMBEDDING).zip(context) {
            slot.copy_from_slice(&weights[usize::from(*byte) * EMBEDDING..][..EMBEDDING]);
        }
        self.hidden.copy_from_slice(&weights[STARTS[2]..STARTS[3]]);
        let rows = weights[STARTS[1]..STARTS[2]].chunks_exact(HIDDEN);
        rows.zip(&self.input)
            .for_each(|(row, &input)| add(&mut self.hidden, row, input));
        self.hidden
            .iter_mut()
            .for_each(|value| *value = value.max(0.0));
        self.output.copy_from_slice(&weights[STARTS[4]..]);
        let rows = weights[STARTS[3]..STARTS[4]].chunks_exact(BYTES);
        for (row, &hidden) in rows.zip(&self.hidden).filter(|(_, hidden)| **hidden > 0.0) {
            add(&mut self.output, row, hidden);
        }
        let most = self.output.iter().copied().fold(f32::MIN, f32::max);
        self.output
            .iter_mut()
            .for_each(|value| *value = (*value - most).exp());
        let sum: f32 = self.output.iter().sum();
        self.output.iter_mut().for_each(|value| *value /= sum);
        -self.output[usize::from(*target)].max(1e-30).ln()
    }

    /// Adds the gradient of one example.
    fn backward(&mut self, weights: &[f32], (context, target): &Example) {
        self.output[usize::from(*target)] -= 1.0;
        let (before_output, bias) = self.gradients.split_at_mut(STARTS[4]);
        add(bias, &self.output, 1.0);
        let (before, output) = before_output.split_at_mut(STARTS[3]);
        let rows = weights[STARTS[3]..STARTS[4]].chunks_exact(BYTES);
        let rows = rows.zip(output.chunks_exact_mut(BYTES));
        for ((row, gradient), hidden) in rows.zip(&mut self.hidden) {
            if *hidden > 0.0 {
                add(gradient, &self.output, *hidden);
                *hidden = dot(row, &self.output);
            }
        }
        add(&mut before[STARTS[2]..], &self.hidden, 1.0);
        let (embedding, input) = before[..STARTS[2]].split_at_mut(STARTS[1]);
        let rows = weights[STARTS[1]..STARTS[2]].chunks_exact(HIDDEN);
        for ((row, gradient), value) in rows
            .zip(input.chunks_exact_mut(HIDDEN))
            .zip(&mut self.input)
        {
            add(gradient, &self.hidden, *value);
            *value = dot(row, &self.hidden);
        }
        for (byte, values) in context.iter().zip(self.input.chunks(EMBEDDING)) {
            let place = usize::from(*byte) * EMBEDDING;
            add(&mut embedding[place..][..EMBEDDING], values, 1.0);
        }
    }
}

/// The mean loss on examples, in nats per byte.
pub(crate) fn loss(weights: &[f32], examples: &[Example], buffers: &mut Buffers) -> f32 {
    let sum: f32 = examples
        .iter()
        .map(|one| buffers.forward(weights, one))
        .sum();
    sum / examples.len().max(1) as f32
}

/// AdamW's moments.
pub(crate) struct Optimiser {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Default for Optimiser {
    fn default() -> Self {
        Self {
            first: vec![0.0; WEIGHTS],
            second: vec![0.0; WEIGHTS],
            steps: 0,
        }
    }
}

impl Optimiser {
    /// Takes a step on a batch.
    pub(crate) fn step(&mut self, weights: &mut [f32], batch: &[Example], buffers: &mut Buffers) {
        buffers.gradients.fill(0.0);
        for example in batch {
            buffers.forward(weights, example);
            buffers.backward(weights, example);
        }
        self.steps += 1;
        let (beta1, beta2): (f32, f32) = (0.9, 0.95);
        let settings = AdamW {
            scale: 1.0 / batch.len().max(1) as f32,
            beta1,
            beta2,
            rate: 2e-3 / (1.0 - beta1.powi(self.steps)),
            correction2: 1.0 / (1.0 - beta2.powi(self.steps)),
            epsilon: 1e-8,
            kept: 1.0,
        };
        let (first, second) = (&mut self.first, &mut self.second);
        adamw(weights, first, second, &buffers.gradients, &settings);
    }
}

fn add(to: &mut [f32], values: &[f32], factor: f32) {
    to.iter_mut()
        .zip(values)
        .for_each(|(to, value)| *to += factor * value);
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (one, other) in one.chunks_exact(16).zip(other.chunks_exact(16)) {
        for ((sum, a), b) in sums.iter_mut().zip(one).zip(other) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}
