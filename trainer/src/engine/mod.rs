//! What computes: the model's losses, gradients and updates on one device.
//!
//! | file | holds |
//! |---|---|
//! | `tensors.rs` | the engine: weights and moments on the device, a step, a loss, the next token |
//! | `compress.rs` | what was learnt, compressed where it lives |
//! | `model.rs` | the forward pass, in burn's tensors |
//! | `decode.rs` | a text read on token by token |
//! | `rope.rs` | the rotary table |
//! | `plain.rs`, `tests.rs` | the engine against first principles and a plain forward pass in f64 |

pub(crate) mod compress;
mod decode;
mod model;
#[cfg(test)]
mod plain;
mod rope;
mod tensors;
#[cfg(test)]
mod tests;

pub(crate) use rope::frequencies;
pub(crate) use tensors::{Engine, panic_message};

/// Windows of text as rows of tokens, `[sequences, length + 1]`: each row holds its inputs and, shifted by one, its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    tokens: Vec<u32>,
    sequences: usize,
    length: usize,
}

impl Batch {
    /// A batch of rows that all have `length` + 1 tokens.
    pub fn new(rows: impl IntoIterator<Item = Vec<u32>>, length: usize) -> Self {
        let mut batch = Self { tokens: Vec::new(), sequences: 0, length };
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

    /// Inputs of all rows, `[sequences, length]`.
    pub fn inputs(&self) -> impl Iterator<Item = u32> + '_ {
        self.tokens.chunks_exact(self.length + 1).flat_map(|row| row[..self.length].iter().copied())
    }

    /// Targets of all rows, `[sequences, length]`.
    pub fn targets(&self) -> impl Iterator<Item = u32> + '_ {
        self.tokens.chunks_exact(self.length + 1).flat_map(|row| row[1..].iter().copied())
    }
}

/// One update of AdamW (Loshchilov and Hutter, 2019, algorithm 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Update {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    /// Weight decay of matrices, a share of the learning rate.
    pub decay: f64,
    /// Largest global gradient norm, if there is one.
    pub clip: Option<f64>,
    /// Updates behind the moments before this one.
    pub updates_before: u64,
}

/// What AdamW adds to the root of the second moment.
pub(crate) const ADAM_EPSILON: f32 = 1e-8;

impl Update {
    /// The factor that undoes the bias of the first moment.
    pub fn correction1(&self) -> f64 {
        correction(self.beta1, self.updates_before)
    }

    /// The factor that undoes the bias of the second moment.
    pub fn correction2(&self) -> f64 {
        correction(self.beta2, self.updates_before)
    }

    /// What a gradient of global norm `norm` is multiplied with.
    pub fn clip_factor(&self, norm: f64) -> f64 {
        match self.clip {
            Some(clip) if norm > clip => clip / norm,
            _ => 1.0,
        }
    }
}

fn correction(beta: f64, updates_before: u64) -> f64 {
    let updates = i32::try_from(updates_before + 1).unwrap_or(i32::MAX);
    1.0 / (1.0 - beta.powi(updates))
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
    /// Whether the step could be applied; an engine leaves weights and moments alone where it could not.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

/// AdamW's two moments, flat, in the layout's order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MomentVectors {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}
