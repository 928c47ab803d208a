//! What every host of a core needs beside it, as plain data: the daemon and the simulator share it.
//!
//! | file | holds |
//! |---|---|
//! | `timers` | which timers are set, and which is due |
//! | `answers` | how much goes into an answer |
//! | `retention` | what a store keeps and deletes |

pub mod answers;
pub mod retention;
mod timers;

pub use timers::Timers;
