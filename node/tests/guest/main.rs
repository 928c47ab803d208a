//! Commands are good guests: they bear it when nobody reads them, when the disk is full, when they
//! are told to end, and whatever the environment holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(unix)]

mod environment;
mod folders;
mod json;
mod node;
mod output;
mod program;
mod signals;
