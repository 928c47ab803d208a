//! Many cores in virtual time, with loss, crashes and liars.
//!
//! [`run`] plays a [`Scenario`] from its seed. The same seed gives the same events, message for
//! message: the [trace hash](Outcome::trace) covers all of them. Meanwhile an audit watches what no
//! single peer can see. It ends the run with a [`Violation`] when
//!
//! - two honest peers decide a round differently, or hold different weights,
//! - an honest peer signs two messages for one [`Slot`](crate::Slot), across all its crashes and
//!   restarts,
//! - a core is inconsistent after a step,
//! - or the run is stuck: a round is not decided although enough peers are up.
//!
//! A peer may crash between any two outputs of one step. Only what it persisted before survives.
//! The simulator models weights by their state root alone: a hash chain over the applied rounds, so
//! that a fork shows at once.
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
//! | `scenario`, `manifest` | what a simulated run is like |
//! | `world` | the queue of events, and the loop over it |
//! | `event` | what can happen |
//! | `node` | one peer: its disk, its core, its weights and blobs |
//! | `outputs` | carrying out a core's outputs |
//! | `jobs` | training, fetching and applying, in the background |
//! | `requests` | requests from peer to peer, and their answers |
//! | `network` | latency, loss, duplicates, partitions |
//! | `liar` | what dishonest peers send instead |
//! | `audit` | what must never happen |
//! | `outcome`, `trace` | what a run showed, and the hash over everything that happened |
//! | `random` | the only source of chance |
//! | `fixtures` | small keys, manifests and messages for tests |

#![allow(clippy::indexing_slicing)] // The simulator itself numbers the peers.

mod audit;
mod event;
pub mod fixtures;
mod jobs;
mod liar;
mod manifest;
mod network;
mod node;
mod outcome;
mod outputs;
mod random;
mod requests;
mod scenario;
mod trace;
mod world;

pub use audit::Violation;
pub use liar::Lie;
pub use network::{Network, Partition};
pub use outcome::Outcome;
pub use scenario::{Absence, Scenario};
pub use world::run;
