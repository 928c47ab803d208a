//! The command line: one file per command, all of the same shape.
//!
//! | file | holds |
//! |---|---|
//! | `command` | [`Cli`]: the global flags and the list of commands |
//! | `args` | flags that several commands share |
//! | `node` | flags of the commands that run a node |
//! | `open` | opening a model and a device, with progress on the terminal |
//! | `progress` | progress bars |
//! | `runtime` | threads, the async runtime, Ctrl-C |

mod args;
mod bench;
mod command;
mod data;
mod doctor;
mod eval;
mod export;
mod generate;
mod import;
mod join;
mod key;
mod new;
mod node;
mod open;
mod progress;
mod run;
mod runtime;
mod status;
mod testnet;

pub use command::{Cli, LOGGED};
