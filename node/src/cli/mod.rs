//! The command line: one file per command, all of the same shape.
//!
//! | file | holds |
//! |---|---|
//! | `command` | [`Cli`]: the global flags and the list of commands |
//! | `entry` | what happens before and after a command: signals, panics, errors |
//! | `args` | flags that several commands share |
//! | `node` | flags of the commands that run a node |
//! | `page_args` | flags of the commands that ask a running node |
//! | `open` | opening a model and a device, with progress on the terminal |
//! | `chat` | a conversation by the model's chat template |
//! | `progress` | progress bars |
//! | `runtime` | threads and the async runtime |

mod args;
mod bench;
mod chat;
mod command;
mod data;
mod doctor;
mod entry;
mod eval;
mod export;
mod fork;
mod generate;
mod import;
mod join;
mod key;
mod new;
mod node;
mod open;
mod page_args;
mod progress;
mod run;
mod runtime;
mod sim;
mod status;
mod testnet;
mod verify;

pub use command::{Cli, LOGGED};
pub use entry::main;
