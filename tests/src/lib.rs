//! Helpers of the whole-system tests.
//!
//! | module | gives |
//! |---|---|
//! | [`net`] | real `weal` processes on loopback, which a test watches, kills and restarts |
//! | [`commands`] | commands of the program that end by themselves |
//! | [`compose`] | the testnet of `deploy/`, in containers |
//! | [`observer`] | a silent peer that records what every node signs |
//!
//! Helpers that need nothing of Commonweal are in the crate `weal-testing`.

#![forbid(unsafe_code)]
// These helpers run in tests only, where a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod commands;
pub mod compose;
pub mod net;
pub mod observer;
