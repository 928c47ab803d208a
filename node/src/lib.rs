//! The node: an event loop of I/O around the pure core of the rules.
//!
//! | module | holds |
//! |---|---|
//! | [`daemon`] | the loop that carries out the core's outputs and feeds it inputs |
//! | `learner` | the thread that trains |
//! | [`store`] | what survives a crash |
//! | [`folder`], [`home`] | a node's data folder, and the run in it once it is opened |
//! | [`settings`], [`link`] | how this machine takes part; how people are invited |
//! | `node_network` | how the node uses the network |
//! | `plan`, `check`, `data` | what a manifest means here; checking contributions; reading text |
//! | [`new_run`], [`join`] | making a run, and joining one |
//! | [`loaded_model`] | a model to generate with, to measure or to export |
//! | [`status_client`] | asking a running node for its status |
//! | [`testnet`] | a whole network on this machine |
//! | [`error`] | errors, their hints and their exit codes |
//! | [`cli`] | the command line |

#![forbid(unsafe_code)]

mod bench;
mod check;
pub mod cli;
pub mod daemon;
mod data;
mod doctor;
pub mod documented;
pub mod error;
pub mod folder;
pub mod home;
pub mod join;
mod learner;
pub mod link;
pub mod loaded_model;
pub mod new_run;
mod node_network;
mod plan;
pub mod settings;
pub mod status_client;
pub mod store;
pub mod testnet;

pub use error::{Error, Result};
