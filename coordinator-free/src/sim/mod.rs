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
//! What peers learn is up to a [`Learning`]. [`run`] plays with a [`HashChain`], which models
//! weights by their state root alone; [`run_with`] plays with any, and with any [`Dishonest`]
//! peers.
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
//! | `swarm` | scenarios with a mix of faults drawn from the seed |
//! | `script`, `play_script` | exact situations, step by step |
//! | `world` | the queue of events, and the loop over it |
//! | `event` | what can happen |
//! | `node`, `disk`, `clock` | one peer: its core and weights, what it stores, its time |
//! | `outputs` | carrying out a core's outputs |
//! | `jobs` | training, fetching and applying, in the background |
//! | `judging` | comparing and measuring contributions |
//! | `requests` | requests from peer to peer, and their answers |
//! | `gossip`, `transfers` | signed messages through the mesh; blobs and weights |
//! | `network` | connections, latency, bandwidth, loss, duplicates, partitions; bytes counted |
//! | `faults` | crashes, failing disks, peers that come and go |
//! | `learning` | what stands behind contributions and weights |
//! | `dishonest`, `deception` | what a dishonest peer may do; doing it |
//! | `liar`, `nuisance` | peers that equivocate, and peers that nobody can ban |
//! | `actors` | who learns and who lies in a run |
//! | `audit`, `oracle` | what must never happen; certificates checked by other code |
//! | `watch`, `observe` | progress, fairness, and what is revealed when |
//! | `outcome`, `trace` | what a run showed, and the hash over everything that happened |
//! | `random` | the only source of chance |
//! | `fixtures` | small keys, manifests and messages for tests |
//! | `made_up` | long histories that nobody played |

#![allow(clippy::indexing_slicing)] // The simulator itself numbers the peers.

mod actors;
mod audit;
mod clock;
mod deception;
mod dishonest;
mod disk;
mod event;
mod faults;
pub mod fixtures;
mod gossip;
mod jobs;
mod judging;
mod learning;
mod liar;
mod made_up;
mod manifest;
mod network;
mod node;
mod nuisance;
mod observe;
mod oracle;
mod outcome;
mod outputs;
mod play_script;
mod random;
mod requests;
mod scenario;
mod script;
mod swarm;
mod trace;
mod transfers;
mod watch;
mod world;

pub use actors::Actors;
pub use audit::Violation;
pub use dishonest::{Act, Audience, Dishonest, Glimpse, Said};
pub use disk::{DiskFault, DiskFaultKind, Disks};
pub use learning::{HashChain, Learning, Task, Trained};
pub use liar::Lie;
pub use made_up::MadeUp;
pub use network::{Eclipse, Network, OneWay, Partition, Traffic, TrafficKind};
pub use outcome::{Outcome, PeerOutcome};
pub use random::Random;
pub use scenario::{Absence, Scenario, Slow};
pub use script::{Script, Until};
pub use world::{run, run_with};
