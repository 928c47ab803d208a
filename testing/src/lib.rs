//! Helpers for tests of every crate. A development dependency only: it depends on no other crate of
//! the workspace, so every one of them can use it.
//!
//! | module | purpose |
//! |---|---|
//! | [`require`] | skip a test when the machine lacks something, or fail; short and full forms |
//! | [`browser`] | drive a headless Chromium |
//! | [`poll`] | wait for a condition |
//! | [`lab`] | homes behind routers, in network namespaces |
//! | [`random`] | pseudo-random numbers from a seed, the same on every machine |

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it
#![forbid(unsafe_code)]
// These helpers run in tests only, where a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod browser;
pub mod lab;
pub mod poll;
pub mod random;
pub mod require;

pub use poll::{Patience, wait_for};
pub use random::SplitMix64;
