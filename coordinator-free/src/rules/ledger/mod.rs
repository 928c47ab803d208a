//! What each peer has earned, computed from decided rounds alone.
//!
//! A peer earns weight with each contribution that voters measured as useful (see
//! [`trust`](super::trust)), and all weights decay every round. A newcomer's weight counts only
//! after a probation, and then in growing part (vesting). A voter that leaves or falls silent is
//! not waited for, but its weight leaves the quorum only slowly: otherwise whoever is awake last
//! would own the run. Nothing here looks at connections or at a clock: a peer is absent when
//! decided rounds lack its signature. All arithmetic is on integers and saturates, so every node
//! computes the same ledger.
//!
//! | file | holds |
//! |---|---|
//! | `account` | what one peer has earned |
//! | `outcome` | what a decided round says about peers |
//! | `accounts` | every peer's account: the ledger, and how a round changes it |
//! | `settlement` | what scores change: standing, membership, credit |
//! | `departure` | how the weight of voters that have left shrinks |
//! | `root` | the hash over all of it |
//! | `state` | a ledger as a snapshot holds it |

mod account;
mod accounts;
mod departure;
mod outcome;
mod root;
mod settlement;
mod state;
#[cfg(test)]
mod tests;

pub use account::Account;
pub use accounts::Ledger;
pub(crate) use outcome::Outcome;
pub(crate) use state::{account_states, ledger_of, waiting_tickets};
