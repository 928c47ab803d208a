//! The maths of a contribution: error feedback, chunked top-k, quantise, encode, clip, aggregate.
//!
//! A round of training begins with weights θ that all replicas share, bit for bit. Each peer trains
//! from them on its own, and what it learnt is its *pseudo-gradient*, θ before minus θ after: as
//! large as the model, and far too large for a home connection. This crate makes it small, reads
//! what others made small, and takes the step that leads every replica to the same next θ.
//!
//! ```text
//! delta, error ──compress──► body ┄┄network┄┄► decode ──► Contribution ┐
//!                                              …decided set, in order ├──apply──► next theta ──root──► 32 bytes
//!                                             decode ──► Contribution ┘
//! ```
//!
//! # The way there
//!
//! [`compress`] adds the pseudo-gradient to what could not be sent before (the *error feedback*,
//! see [`feedback`]), keeps the 64 largest of every 4096 values, sends a sign for each and one
//! scale for all, and codes their places in about 7.5 bits each: some 8.52 bits a value sent, 240
//! times fewer bytes than all values as f32.
//!
//! With the feature `gpu`, `gpu::compress` does the same where a GPU's tensors are, and only what
//! is sent leaves it.
//!
//! # The way back
//!
//! [`decode`] believes nothing: it takes bytes from a stranger, checks every length before it
//! allocates, accepts one encoding of each contribution only, and never panics. [`apply`] clips
//! each contribution to the median norm, adds up, and steps; its result is bit-identical on every
//! machine and for any number of threads (see [`aggregate`] for how). [`state::root`] turns the
//! result into 32 bytes that replicas vote on, and its outlines
//! ([`weal_proto::outline`]) let a newcomer fetch weights from strangers in pieces, and prove each
//! piece.
//!
//! # For the learner
//!
//! [`softmax`] and [`swiglu`] are what a processor does in one pass where a framework of tensors
//! makes many, forwards and backwards, and [`update`] is an optimiser's step. Nothing that replicas
//! agree on depends on them.
//!
//! # A round of two peers
//!
//! ```
//! use weal_kernels::{Compression, Layout, Rule, TensorSpec, apply, compress, decode, pseudo_gradient, state};
//!
//! let layout = Layout::new(vec![
//!     TensorSpec::new("embedding", [256, 32]),
//!     TensorSpec::new("norm", [32]),
//! ])?;
//! let compression = Compression::default();
//! let mut theta = vec![0.5f32; layout.parameters()];
//!
//! // Each peer learns something of its own, and compresses it.
//! let mut bodies = Vec::new();
//! for peer in 1..=2 {
//!     let mut delta: Vec<f32> = theta.iter().enumerate()
//!         .map(|(i, weight)| weight - 0.001 * ((i * peer) % 7) as f32)
//!         .collect();
//!     pseudo_gradient(&theta, &mut delta)?;
//!     let error = vec![0.0; layout.parameters()];
//!     bodies.push(compress(&layout, &compression, &error, &mut delta)?);
//!     // What could not be sent is in `delta` now: the next round's error feedback.
//! }
//!
//! // Every replica reads both bodies, and applies them in the decided order.
//! let limit = 1 << 20;
//! let contributions = bodies.iter()
//!     .map(|body| decode(&layout, &compression, body, limit))
//!     .collect::<Result<Vec<_>, _>>()?;
//! apply(&layout, &mut theta, &contributions, 0.7, Rule::MeanOfSenders)?;
//!
//! // The root is what they vote on.
//! let root = state::root(&layout, &theta)?;
//! assert_eq!(root, state::outline(&layout, &theta)?.root(&layout)?);
//! # Ok::<(), weal_kernels::Error>(())
//! ```
//!
//! # Traps
//!
//! - `compress` leaves the next error feedback where the pseudo-gradient was. A contribution that
//!   is not chosen must be given back with [`add_back`], or what it carried is lost.
//! - The order of the contributions is part of what [`apply`] computes. Use the decided one.
//! - [`Rule`], α and [`Compression`] must be the same for all replicas, so they belong in the
//!   manifest.

#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

#[cfg(all(target_arch = "x86", not(target_feature = "sse2")))]
compile_error!("the x87 unit rounds differently: replicas need SSE2 to be bit-identical");

pub mod aggregate;
mod codec;
#[cfg(test)]
mod conformance;
mod contribution;
mod error;
mod exp;
pub mod feedback;
#[cfg(feature = "gpu")]
pub mod gpu;
mod grid;
mod layout;
mod quantise;
#[cfg(all(test, feature = "wgpu"))]
#[allow(dead_code)] // shared with the tests of the whole
#[path = "../../tests/src/require.rs"]
mod require;
pub mod softmax;
pub mod state;
pub mod swiglu;
#[cfg(test)]
mod testing;
mod topk;
pub mod update;
mod wide;

pub use aggregate::{Rule, apply, apply_and_outline, clip_factors};
pub use codec::body::max_body_bytes;
pub use contribution::{Contribution, decode};
pub use error::Error;
pub use feedback::{add_back, compress, pseudo_gradient};
pub use grid::{Compression, MAX_CHUNK};
pub use layout::{Layout, TensorSpec};
