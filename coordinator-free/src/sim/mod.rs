//! Many cores in virtual time, with loss, crashes and liars.
//!
//! [`run`] plays a [`Scenario`] from its seed: the same seed gives the same events, message for
//! message, which the [trace hash](Outcome::trace) shows. While it plays, an audit watches what no
//! single peer can see, and ends the run with a [`Violation`] when
//!
//! - two honest peers decide a round differently, or hold different weights,
//! - an honest key ever signs two messages for one place, across all its crashes and restarts,
//! - or the run gets stuck: a round is not decided although enough peers are there.
//!
//! A crash may hit between any two outputs of one step. Only what was persisted before it survives.
//! Weights are modelled by their state root alone: a hash chain over the applied sets, so that a
//! fork shows at once.
//!
//! ```
//! use weal_coordinator_free::sim::{Scenario, run};
//!
//! let scenario = Scenario { rounds: 3, ..Scenario::calm(7, 4) };
//! let outcome = run(&scenario)?;
//! assert_eq!(outcome.trace, run(&scenario)?.trace);
//! # Ok::<(), weal_coordinator_free::sim::Violation>(())
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `scenario` | what is played |
//! | `world` | the queue of events, and the loop over it |
//! | `node` | one peer: its disk, its core, what it holds |
//! | `outputs` | carrying out a core's outputs |
//! | `network` | latency, loss, duplicates, partitions |
//! | `liar` | what dishonest peers send instead |
//! | `audit` | what must never happen |
//! | `trace` | the hash over everything that happened |
//! | `random` | the one source of chance |

#![allow(clippy::indexing_slicing)] // Peers are counted by the simulator itself.

mod audit;
mod liar;
mod network;
mod node;
mod outputs;
mod random;
mod scenario;
mod trace;
mod world;

pub use audit::Violation;
pub use liar::Lie;
pub use network::{Network, Partition};
pub use scenario::{Absence, Scenario, manifest};
pub use world::{Outcome, run};
