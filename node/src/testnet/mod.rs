//! A whole network on this machine: real nodes, each with its own process, folder, key and ports.
//!
//! | file | holds |
//! |---|---|
//! | [`prepare`] | writes the nodes' folders |
//! | `processes` | starts and stops the nodes |
//! | `watch` | follows the rounds and sums them up |

pub mod prepare;
pub(crate) mod processes;
pub(crate) mod watch;
