//! The daemon: a thin ring of I/O round the pure core.
//!
//! | module | is |
//! |---|---|
//! | [`daemon`] | the loop that carries the core's outputs out and brings inputs in |

//! | [`store`] | what survives a crash |
//! | [`learner`] | the thread that trains |
//! | [`folder`], [`settings`], [`link`] | a node's data folder, its settings, how people are invited |
//! | [`plan`], [`check`], [`data`] | what a manifest means here; checking contributions; reading text |
//! | [`new_run`], [`join`] | making a run, and coming to one |
//! | [`testnet`] | a whole network on this machine |
//! | [`cli`] | the command line |

pub mod bench;
pub mod check;
pub mod cli;
pub mod daemon;
pub mod data;
pub mod doctor;
pub mod error;
pub mod folder;
pub mod join;
pub mod learner;
pub mod link;
pub mod plan;

pub mod loaded_model;
pub mod new_run;
pub mod settings;
pub mod status_client;
pub mod store;
pub mod testnet;

pub use error::{Error, Result};
