//! A whole network on this machine: n real nodes, each its own process, folder, keys and ports.
//!
//! | file | holds |
//! |---|---|
//! | [`prepare`] | writes the folders |
//! | [`processes`] | starts and stops the nodes |
//! | [`watch`] | follows the rounds, tells people and programs |

pub mod prepare;
pub mod processes;
pub mod watch;
