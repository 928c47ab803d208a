//! Training on a GPU: operations that tensor libraries run as many kernels, each in one pass over
//! memory.
//!
//! | file | holds |
//! |---|---|
//! | `launch.rs` | buffers, and how many cubes (workgroups) a kernel takes |
//! | `rows.rs` | sums and maxima over the units (threads) of a cube |
//! | `adamw.rs` | AdamW's update, in place |
//! | `attention.rs` | attention weights from scores, and the gradient of the scores |
//! | `flash_attention/` | attention from queries, keys and values, without scores in memory |
//! | `cross_entropy.rs` | the loss of each row of scores, and the gradient of the scores |
//! | `norm.rs` | RMSNorm, forward and backward |
//! | `rotate.rs` | rotary positions |
//! | `squares.rs` | sums of squares, for the norm of a gradient |
//! | `swiglu.rs` | the gate of the feed-forward network |
//!
//! All values are f32. A kernel works on buffers of contiguous values, and never beyond the number
//! of values it is given. Nothing that peers agree on depends on it.

mod adamw;
mod attention;
mod cross_entropy;
mod flash_attention;
mod launch;
mod norm;
mod rotate;
mod rows;
mod squares;
mod swiglu;
#[cfg(all(test, feature = "wgpu"))]
mod tests;

pub use adamw::adamw;
pub use attention::{SeenKeys, attention_backward, attention_weights};
pub use cross_entropy::{cross_entropy, cross_entropy_backward};
pub use flash_attention::FlashAttention;
pub use launch::Values;
pub use norm::{NormGradients, rms_norm, rms_norm_backward};
pub use rotate::{Heads, rotate, rotate_backward};
pub use squares::sum_of_squares;
pub use swiglu::{swiglu, swiglu_backward};
