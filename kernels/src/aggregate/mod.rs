//! The outer step: from the decided contributions to the next round's weights.
//!
//! For each tensor, contribution p is clipped to the median norm of the round, so that no peer's
//! step is larger than usual:
//!
//! ```text
//! clip_p = min(1, median norm / norm_p)
//! theta <- theta - alpha * A(coefficient_p * clip_p * contribution_p)
//! ```
//!
//! The coefficient is how far decided rounds trust the peer, from 0 to 1. Norms count in the median
//! by it, so untrusted peers cannot raise what they are clipped to.
//!
//! (SparseLoCo, arXiv 2508.15706; Covenant-72B, arXiv 2603.08163, section on the outer step.)
//!
//! # Bit for bit
//!
//! Every replica must compute the same weights to the last bit, on any processor and with any
//! number of threads. Therefore:
//!
//! - Only IEEE 754 f32 addition, subtraction, multiplication, division and square root are used,
//!   whose results the standard fixes to the last bit. Rust never fuses them, and nothing calls the
//!   system's mathematics library.
//! - No sum crosses threads: each thread owns a tile of the weights, and adds the contributions in
//!   the decided order.
//! - Norms are square roots of exact integer sums.
//!
//! Rounding mode and flush-to-zero flag must be IEEE's defaults. Rust requires them, but a driver
//! in the same process can change a thread's; so every thread checks its own before each tile.

mod clip;
mod float_mode;
mod step;
#[cfg(test)]
mod tests;

pub use clip::clip_factors;
pub use step::{OuterStep, Rule, apply, apply_and_outline, apply_in_parts};
