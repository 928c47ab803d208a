//! The state machine: takes what happened, and returns what to do about it.
//!
//! State, each type with its own file and private fields:
//!
//! | file | holds |
//! |---|---|
//! | `machine` | [`Core`]: dispatch, and what all parts share |
//! | `recovered` | what an earlier run of the program left on disk |
//! | `round` | the messages and findings of the running round |
//! | `early` | messages of the next round, kept until it begins |
//! | `fresh_start` | whether a node without a record of the run may sign |
//! | `liveness` | when to ask peers for what gossip lost |
//! | `weight_sync` | how the weights in memory catch up with decisions |
//!
//! What `Core` does, one file for each concern:
//!
//! | file | holds |
//! |---|---|
//! | `receive`, `keep` | messages from strangers: which are dropped, kept and forwarded |
//! | `equivocation` | messages that contradict each other |
//! | `commit`, `fetch`, `compare`, `attest`, `decide` | the phases of a round |
//! | `judge` | measuring what the contributions of the last round do to the loss |
//! | `ticket` | asking for a place |
//! | `recover` | going on without voters that are gone for ever |
//! | `expected` | which peers a phase waits for |
//! | `adopt` | taking a decision as history |
//! | `weights` | applying decided rounds, or fetching weights |
//! | `root_mismatch` | noticing that our weights differ from the voters' |
//! | `catch_up` | asking peers when the round makes no progress |
//! | `query` | what other parts of the program may read |
//! | `describe` | what a round waits for, in a line (feature `sim`) |
//! | `invariants` | what must hold after every step (feature `sim`) |

mod adopt;
mod attest;
mod catch_up;
mod commit;
mod compare;
mod decide;
#[cfg(feature = "sim")]
mod describe;
mod early;
mod equivocation;
mod expected;
mod fetch;
mod fresh_start;
#[cfg(feature = "sim")]
mod invariants;
mod judge;
mod keep;
mod liveness;
mod machine;
mod query;
mod receive;
mod recover;
mod recovered;
mod root_mismatch;
mod round;
mod ticket;
mod weight_sync;
mod weights;

pub use machine::{Config, Core};
pub use recovered::Recovered;
