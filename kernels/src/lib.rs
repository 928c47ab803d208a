//! The maths of a contribution: error feedback, chunked top-k, quantise, encode, clip, aggregate.
//!
//! A round starts from weights θ that are identical on all replicas, bit for bit. Each peer trains
//! from them on its own. Its *pseudo-gradient* is θ before training minus θ after: as large as the
//! model, and far too large for a home connection. This crate compresses it, decodes the
//! contributions of others, and takes the step that leads every replica to the same next θ.
//!
//! ```text
//! delta, error ─compress─► body ┄network┄► decode ─► Contribution ┐
//!                           …                          …          ├─apply─► new θ ─root─► 32 bytes
//! delta, error ─compress─► body ┄network┄► decode ─► Contribution ┘
//! ```
//!
//! # Compressing
//!
//! [`compress`] adds the pseudo-gradient to what was not sent in earlier rounds (the *error
//! feedback*, see [`feedback`]). Of every 4096 values it keeps the 32 largest, as a sign each and
//! one scale for all 32, and encodes their positions in about 8.5 bits each. In all that is 9.5
//! bits per kept value: about 430 times fewer bytes than every value as f32.
//!
//! With the feature `gpu`, `gpu::compress` does the same in a GPU's memory, and only the records
//! to send leave the device.
//!
//! # Decoding and applying
//!
//! [`decode`] trusts nothing: it takes bytes from a stranger, checks every length before it
//! allocates, accepts exactly one encoding of each contribution, and never panics. [`apply`] clips
//! each contribution to the median norm, sums them, and takes the outer step. Its result is
//! bit-identical on every machine and for any number of threads ([`aggregate`] explains how).
//! [`state::root`] hashes the new weights to the 32 bytes that peers vote on. A newcomer fetches
//! weights from strangers in chunks, and proves each chunk with an outline
//! ([`weal_proto::outline`]).
//!
//! # Training on the processor
//!
//! [`softmax`] and [`swiglu`] do in one pass over memory what a tensor framework does in many,
//! forward and backward. [`update`] holds the optimisers' steps. Nothing that replicas agree on
//! depends on them.
//!
//! # Example: a round of two peers
//!
//! ```
//! use weal_kernels::{Compression, Layout, OuterStep, Rule, TensorSpec};
//! use weal_kernels::{apply, compress, decode, pseudo_gradient, state};
//!
//! let layout = Layout::new(vec![
//!     TensorSpec::new("embedding", [256, 32]),
//!     TensorSpec::new("norm", [32]),
//! ])?;
//! let compression = Compression::default();
//! let mut theta = vec![0.5f32; layout.parameters()];
//!
//! // Each peer learns something different, and compresses it.
//! let mut bodies = Vec::new();
//! for peer in 1..=2 {
//!     let mut delta: Vec<f32> = theta.iter().enumerate()
//!         .map(|(i, weight)| weight - 0.001 * ((i * peer) % 7) as f32)
//!         .collect();
//!     pseudo_gradient(&theta, &mut delta)?;
//!     let error = vec![0.0; layout.parameters()];
//!     bodies.push(compress(&layout, &compression, &error, &mut delta)?);
//!     // `delta` now holds what was not sent: the next round's error feedback.
//! }
//!
//! // Every replica decodes both bodies, and applies them in the decided order.
//! let limit = 1 << 20;
//! let contributions = bodies.iter()
//!     .map(|body| decode(&layout, &compression, body, limit))
//!     .collect::<Result<Vec<_>, _>>()?;
//! let step = OuterStep {
//!     contributions: &contributions,
//!     coefficients_ppm: &[1_000_000; 2],
//!     alpha: 0.7,
//!     rule: Rule::RootOfSenders,
//! };
//! apply(&layout, &mut theta, &step)?;
//!
//! // Peers vote on the root.
//! let root = state::root(&layout, &theta)?;
//! assert_eq!(root, state::outline(&layout, &theta)?.root(&layout)?);
//! # Ok::<(), weal_kernels::Error>(())
//! ```
//!
//! # Traps
//!
//! - [`compress`] overwrites the pseudo-gradient with the next error feedback. If a contribution is
//!   not chosen, add it back with [`add_back`]; otherwise what it carried is lost.
//! - The result of [`apply`] depends on the order of the contributions. Use the decided order.
//! - [`Rule`], α, coefficients and [`Compression`] must be equal on all replicas, so they
//!   follow from the manifest and from decided rounds.

#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

#[cfg(all(target_arch = "x86", not(target_feature = "sse2")))]
compile_error!("the x87 unit rounds differently: replicas need SSE2 to be bit-identical");

pub mod aggregate;
mod codec;
mod compress_in_place;
#[cfg(test)]
mod conformance;
mod contribution;
mod entries;
mod error;
mod exp;
pub mod feedback;
mod flush;
#[cfg(feature = "gpu")]
pub mod gpu;
mod grid;
mod layout;
pub mod moments8;
pub mod overlap;
pub mod own_work;
mod quantise;
mod quiet_drivers;
mod simd;
mod sketch;
pub mod softmax;
pub mod state;
mod stored;
pub mod swiglu;
#[cfg(test)]
mod testing;
mod topk;
pub mod update;

pub use aggregate::{OuterStep, Rule, apply, apply_and_outline, apply_in_parts, clip_factors};
pub use codec::body::max_body_bytes;
pub use compress_in_place::{Change, compress_in_place};
pub use contribution::{Contribution, decode};
pub use entries::{Entries, entries};
pub use error::Error;
pub use feedback::{add_back, compress, pseudo_gradient};
pub use grid::{Compression, MAX_CHUNK};
pub use layout::{Layout, TensorSpec};
pub use overlap::{Net, Overlaps};
pub use own_work::{Agreement, OwnWork};
pub use quiet_drivers::quiet_drivers;
pub use sketch::Sketch;
pub use stored::{Bf16, Stored};
