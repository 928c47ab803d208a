//! What computes: a model's losses, gradients and updates on one device, in burn's tensors.
//!
//! | file | holds |
//! |---|---|
//! | `handle.rs` | [`Engine`]: a step, a loss, the next token, behind a guard against device loss |
//! | `batch.rs` | a batch of token windows |
//! | `transfer.rs` | flat vectors to tensors on the device, and back |
//! | `parameters.rs` | weights and optimiser states |
//! | `device_states.rs` | optimiser states where the device computes |
//! | `host.rs` | optimiser states in host memory, updated by the CPU |
//! | `kept.rs` | moments and error feedback, as an engine's user sees them |
//! | `moments.rs` | a tensor's moments in host memory, in f32 or in eight bits |
//! | `error_feedback.rs` | the error feedback, and compressing the pseudo-gradient |
//! | `places.rs` | setting and reading single weights |
//! | `passes.rs` | forward and backward passes over a batch |
//! | `gradient.rs` | gradients in little memory: micro-batches, recomputation |
//! | `memory_trouble.rs` | which failures are about memory |
//! | `seconds.rs` | which tensors have a second moment |
//! | `sums.rs` | where gradients are summed up |
//! | `optimiser.rs` | AdamW and Muon |
//! | `fused` | operations in one pass over memory, on the CPU and on a GPU |
//! | `model.rs` | the forward pass |
//! | `attention` | attention in blocks of queries, forward and backward |
//! | `decode.rs` | generating text token by token, with a KV cache |
//! | `rope.rs` | rotary positions |
//! | `scores.rs` | how likely chosen tokens are, for evaluation |
//! | `plain.rs`, `tests.rs` | tests against first principles and a plain forward pass in f64 |

mod attention;
mod batch;
mod decode;
mod device_states;
mod error_feedback;
mod fused;
mod gradient;
mod handle;
mod host;
mod kept;
mod loss_scale;
mod memory_trouble;
mod model;
mod moments;
mod norm;
mod optimiser;
mod parameters;
mod passes;
mod places;
#[cfg(test)]
mod plain;
mod rope;
mod scores;
mod seconds;
mod sums;
#[cfg(test)]
mod tests;
mod transfer;
mod weight_and_moments;

pub(crate) use attention::{QUERIES_AT_ONCE, queries_at_once};
pub(crate) use batch::Batch;
pub(crate) use error_feedback::{HostError, compress_tensors};
pub(crate) use gradient::SCORES_AT_ONCE;
pub(crate) use handle::{Engine, StepReport};
#[cfg(test)]
pub(crate) use moments::MomentVectors;
pub(crate) use moments::{MomentsRef, TensorMoments};
pub(crate) use optimiser::Update;
pub(crate) use rope::Angles;
pub(crate) use scores::ScoredWindow;
pub(crate) use seconds::Seconds;
pub(crate) use transfer::supports;
