//! The node: an event loop of I/O around the pure core of the rules.
//!
//! | module | holds |
//! |---|---|
//! | [`daemon`] | the loop that carries out the core's outputs and feeds it inputs |
//! | `learner` | the thread that trains |
//! | [`store`] | what survives a crash |
//! | [`folder`], [`home`] | a node's data folder, and the run in it once it is opened |
//! | `full_disk` | writes that wait while the disk is full |
//! | [`settings`], [`link`] | how this machine takes part; how people are invited |
//! | `anchor` | a state of the run that a link names |
//! | `node_network` | how the node uses the network |
//! | `page_port`, `page_password` | listening for the page, and serving it; its password |
//! | `plan`, `check`, `data` | what a manifest means here; checking contributions; reading text |
//! | [`new_run`], [`join`] | making a run, and joining one |
//! | `model_folder` | the folder that a model's path means |
//! | `proven_weights` | whether weights on disk are those that the run agreed on |
//! | `provenance`, `verify` | where weights come from, and proving it |
//! | [`loaded_model`] | a model to generate with, to measure or to export |
//! | `lone_founder` | long histories, for tests |
//! | [`status_client`] | asking a running node for its status |
//! | [`testnet`] | a whole network on this machine |
//! | `signals`, `terminal` | Ctrl-C and SIGTERM; what the program prints |
//! | `traffic_meter` | the bytes of a month, and the limits on them |
//! | `wall_clock`, `utc_month` | the time of day; the month |
//! | [`error`] | errors, their hints and their exit codes |
//! | `dishonest` | a node that lies, for tests; never part of a default build |
//! | [`cli`] | the command line |

#![forbid(unsafe_code)]

mod anchor;
mod bench;
mod check;
pub mod cli;
pub mod daemon;
mod data;
#[cfg(feature = "dishonest")]
mod dishonest;
mod doctor;
pub mod documented;
pub mod error;
pub mod folder;
mod full_disk;
pub mod home;
pub mod join;
mod learner;
pub mod link;
pub mod loaded_model;
#[cfg(test)]
mod lone_founder;
mod model_folder;
pub mod new_run;
mod node_network;
mod notes;
mod page_password;
mod page_port;
mod plan;
mod proven_weights;
mod provenance;
pub mod settings;
mod signals;
pub mod status_client;
pub mod store;
mod terminal;
pub mod testnet;
mod traffic_meter;
mod utc_month;
mod verify;
mod wall_clock;

pub use error::{Error, Result};
