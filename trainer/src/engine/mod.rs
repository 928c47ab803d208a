//! What computes: the model's losses, gradients and updates on one device.
//!
//! | file | holds |
//! |---|---|
//! | `tensors.rs` | the engine: weights on the device, a step, a loss, the next token |
//! | `states.rs` | what is kept beside them, and where |
//! | `host.rs` | the same in host memory, updated by the processor |
//! | `compress.rs` | what was learnt, compressed where it lives |
//! | `sums.rs` | where gradients are added up, here or there |
//! | `fused.rs` | what the processor does in one pass |
//! | `gradient.rs` | gradients in little memory |
//! | `optimiser.rs` | an update: AdamW, Muon |
//! | `model.rs` | the forward pass, in burn's tensors |
//! | `decode.rs` | a text read on token by token |
//! | `rope.rs` | the rotary table |
//! | `plain.rs`, `tests.rs` | the engine against first principles and a plain forward pass in f64 |

pub(crate) mod compress;
mod decode;
mod fused;
mod gradient;
mod host;
mod model;
mod optimiser;
#[cfg(test)]
mod plain;
mod rope;
mod states;
mod sums;
mod tensors;
#[cfg(test)]
mod tests;

pub(crate) use compress::{connection, memory_capacity, memory_in_use};
pub(crate) use gradient::SCORES_AT_ONCE;
pub(crate) use optimiser::Update;
pub(crate) use rope::frequencies;
pub(crate) use tensors::{Engine, panic_message};

/// Windows of text as rows of tokens, `[sequences, length + 1]`: each row holds its inputs and,
/// shifted by one, its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    tokens: Vec<u32>,
    sequences: usize,
    length: usize,
}

impl Batch {
    /// A batch of rows that all have `length` + 1 tokens.
    pub fn new(rows: impl IntoIterator<Item = Vec<u32>>, length: usize) -> Self {
        let mut batch = Self {
            tokens: Vec::new(),
            sequences: 0,
            length,
        };
        for row in rows {
            debug_assert_eq!(row.len(), length + 1);
            batch.tokens.extend(row);
            batch.sequences += 1;
        }
        batch
    }

    /// Predicted tokens of a row.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Predicted tokens of all rows.
    pub fn predictions(&self) -> usize {
        self.sequences * self.length
    }

    /// The rows, one after the other.
    #[cfg(test)]
    pub fn rows(&self) -> &[u32] {
        &self.tokens
    }

    /// Rows.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// The batch in parts of at most so many rows.
    pub fn parts(&self, sequences: usize) -> impl Iterator<Item = Self> + '_ {
        let length = self.length;
        self.tokens
            .chunks(sequences.clamp(1, self.sequences.max(1)) * (length + 1))
            .map(move |tokens| Self {
                tokens: tokens.to_vec(),
                sequences: tokens.len() / (length + 1),
                length,
            })
    }

    /// Inputs of all rows, `[sequences, length]`.
    pub fn inputs(&self) -> impl Iterator<Item = u32> + '_ {
        self.tokens
            .chunks_exact(self.length + 1)
            .flat_map(|row| row[..self.length].iter().copied())
    }

    /// Targets of all rows, `[sequences, length]`.
    pub fn targets(&self) -> impl Iterator<Item = u32> + '_ {
        self.tokens
            .chunks_exact(self.length + 1)
            .flat_map(|row| row[1..].iter().copied())
    }
}

/// What an inner step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StepReport {
    /// Mean loss over the batch before the update, in nats per token.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
}

impl StepReport {
    /// Whether the step could be applied; an engine leaves weights and moments alone where it could
    /// not.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

/// What the optimiser remembers, flat, in the layout's order: AdamW's two moments; Muon's momentum,
/// and zeros.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MomentVectors {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}
