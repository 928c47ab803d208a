//! Causal attention of all heads of one sequence, forward and backward.
//!
//! The weights of attention are never stored: the forward pass keeps the logarithm of each row's sum, from which the
//! backward pass makes the weights again (Dao et al., 2022, <https://arxiv.org/abs/2205.14135>). Queries go through in
//! blocks, so that keys which a block cannot see cost nothing.

use super::matmul::{Matrix, MatrixMut};
use super::simd;

/// Queries of one block.
const BLOCK: usize = 64;

/// Sizes of attention over one sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attention {
    /// Tokens of the sequence.
    pub length: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_width: usize,
}

/// The inputs of one sequence: `query` is `[length, heads · head width]`, `key` and `value` `[length, kv heads · head width]`.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub query: &'a [f32],
    pub key: &'a [f32],
    pub value: &'a [f32],
}

/// Gradients of [`Inputs`], of the same shapes.
pub(super) struct InputGradients<'a> {
    pub query: &'a mut [f32],
    pub key: &'a mut [f32],
    pub value: &'a mut [f32],
}

/// What the forward pass gives: `output` is `[length, heads · head width]`, `log_sums` `[heads, length]`.
pub(super) struct Outputs<'a> {
    pub output: &'a [f32],
    pub log_sums: &'a [f32],
}

/// Room for one block of scores and of their gradients.
#[derive(Default)]
pub(super) struct Scratch {
    scores: Vec<f32>,
    gradients: Vec<f32>,
}

/// One block of queries of one head.
#[derive(Clone, Copy)]
struct Block {
    /// First value of the head in a row of queries.
    query_column: usize,
    /// First value of the head in a row of keys.
    key_column: usize,
    /// First query.
    start: usize,
    /// One after the last query: how many keys the block can see.
    end: usize,
}

impl Attention {
    fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    fn key_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }

    fn blocks(self, head: usize) -> impl Iterator<Item = Block> {
        let key_column = head / (self.heads / self.kv_heads) * self.head_width;
        (0..self.length).step_by(BLOCK).map(move |start| Block {
            query_column: head * self.head_width,
            key_column,
            start,
            end: (start + BLOCK).min(self.length),
        })
    }

    /// The block's rows of a tensor of queries.
    fn queries<'a>(&self, data: &'a [f32], block: Block) -> Matrix<'a> {
        let width = self.query_width();
        Matrix::strided(&data[block.start * width + block.query_column..], block.rows(), self.head_width, width)
    }

    /// The rows of keys or values that the block can see.
    fn keys<'a>(&self, data: &'a [f32], block: Block) -> Matrix<'a> {
        Matrix::strided(&data[block.key_column..], block.end, self.head_width, self.key_width())
    }

    fn queries_mut<'a>(&self, data: &'a mut [f32], block: Block) -> MatrixMut<'a> {
        let width = self.query_width();
        MatrixMut::strided(&mut data[block.start * width + block.query_column..], block.rows(), self.head_width, width)
    }

    fn keys_mut<'a>(&self, data: &'a mut [f32], block: Block) -> MatrixMut<'a> {
        MatrixMut::strided(&mut data[block.key_column..], block.end, self.head_width, self.key_width())
    }

    /// output = softmax(query · keyᵗ / √head width) · value, each query seeing itself and what came before.
    pub fn forward(&self, inputs: Inputs, scratch: &mut Scratch, output: &mut [f32], log_sums: &mut [f32]) {
        for head in 0..self.heads {
            for block in self.blocks(head) {
                let scores = scratch.scores(block.rows() * block.end);
                MatrixMut::new(scores, block.rows(), block.end)
                    .set(self.queries(inputs.query, block), self.keys(inputs.key, block).t());
                let log_sums = &mut log_sums[head * self.length..][block.start..block.end];
                for ((row, scores), log_sum) in scores.chunks_exact_mut(block.end).enumerate().zip(log_sums) {
                    let (seen, hidden) = scores.split_at_mut(block.start + row + 1);
                    *log_sum = simd::softmax(seen, self.scale());
                    hidden.fill(0.0);
                }
                self.queries_mut(output, block)
                    .set(Matrix::new(scores, block.rows(), block.end), self.keys(inputs.value, block));
            }
        }
    }

    /// The gradients of the inputs, from that of the output.
    pub fn backward(
        &self,
        inputs: Inputs,
        outputs: Outputs,
        d_output: &[f32],
        scratch: &mut Scratch,
        gradients: InputGradients,
    ) {
        gradients.key.fill(0.0);
        gradients.value.fill(0.0);
        for head in 0..self.heads {
            for block in self.blocks(head) {
                let (rows, seen) = (block.rows(), block.end);
                let (weights, d_scores) = scratch.both(rows * seen);
                MatrixMut::new(weights, rows, seen)
                    .set(self.queries(inputs.query, block), self.keys(inputs.key, block).t());
                MatrixMut::new(d_scores, rows, seen)
                    .set(self.queries(d_output, block), self.keys(inputs.value, block).t());
                let log_sums = &outputs.log_sums[head * self.length..];
                for row in 0..rows {
                    let position = block.start + row;
                    let (weights, hidden) = weights[row * seen..][..seen].split_at_mut(position + 1);
                    simd::softmax_again(weights, self.scale(), log_sums[position]);
                    hidden.fill(0.0);
                    let (d_scores, hidden) = d_scores[row * seen..][..seen].split_at_mut(position + 1);
                    let column = position * self.query_width() + block.query_column..;
                    let offset = simd::dot(
                        &d_output[column.clone()][..self.head_width],
                        &outputs.output[column][..self.head_width],
                    );
                    simd::softmax_backward(d_scores, weights, offset, self.scale());
                    hidden.fill(0.0);
                }
                let (weights, d_scores) = (Matrix::new(weights, rows, seen), Matrix::new(d_scores, rows, seen));
                self.queries_mut(gradients.query, block).set(d_scores, self.keys(inputs.key, block));
                self.keys_mut(gradients.key, block).add(d_scores.t(), self.queries(inputs.query, block));
                self.keys_mut(gradients.value, block).add(weights.t(), self.queries(d_output, block));
            }
        }
    }
}

impl Block {
    fn rows(self) -> usize {
        self.end - self.start
    }
}

impl Scratch {
    fn scores(&mut self, length: usize) -> &mut [f32] {
        grow(&mut self.scores, length)
    }

    fn both(&mut self, length: usize) -> (&mut [f32], &mut [f32]) {
        (grow(&mut self.scores, length), grow(&mut self.gradients, length))
    }
}

fn grow(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}
