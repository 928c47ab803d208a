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
//! | `recent` | peers whose commitments arrived lately |
//! | `liveness` | when to ask peers for what gossip lost |
//! | `weight_sync` | how the weights in memory catch up with decisions |
//!
//! What `Core` does, one file for each concern:
//!
//! | file | holds |
//! |---|---|
//! | `receive` | messages from strangers: which are dropped, kept and forwarded |
//! | `equivocation` | messages that contradict each other |
//! | `commit`, `fetch`, `attest`, `decide` | the phases of a round |
//! | `expected` | which peers a phase waits for |
//! | `adopt` | taking a decision as history |
//! | `weights` | applying decided rounds, or fetching weights |
//! | `root_mismatch` | noticing that our weights differ from the voters' |
//! | `catch_up` | asking peers when the round makes no progress |
//! | `query` | what other parts of the program may read |
//! | `invariants` | what must hold after every step (feature `sim`) |

mod adopt;
mod attest;
mod catch_up;
mod commit;
mod decide;
mod early;
mod equivocation;
mod expected;
mod fetch;
#[cfg(feature = "sim")]
mod invariants;
mod liveness;
mod machine;
mod query;
mod receive;
mod recent;
mod recovered;
mod root_mismatch;
mod round;
mod weight_sync;
mod weights;

pub use machine::{Config, Core};
pub use recovered::Recovered;
