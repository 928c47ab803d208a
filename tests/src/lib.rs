//! Helpers of the whole-system tests.
//!
//! | module | gives |
//! |---|---|
//! | [`net`] | real `weal` processes on loopback, which a test watches, kills and restarts |
//! | [`compose`] | the testnet of `deploy/`, in containers |
//! | [`observer`] | a silent peer that records what every node signs |
//! | [`browser`] | a headless Chromium |
//! | [`require`] | what to do where a machine lacks something |

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod browser;
pub mod compose;
pub mod net;
pub mod observer;
pub mod require;
