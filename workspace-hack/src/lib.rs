//! Nothing: only this crate's manifest matters.
//!
//! Every member of the workspace depends on it, so that `cargo build`, `cargo test` and
//! `cargo test -p …` compile each third-party crate once. `cargo xtask hack` writes the manifest.

#![forbid(unsafe_code)]
