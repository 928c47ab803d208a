//! Why the rules refuse.

use thiserror::Error;
use weal_proto::RoundNumber;

use crate::round_set::Invalid;

/// What can go wrong before a core runs: afterwards it drops what is wrong, and says so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The decided rounds on disk do not follow one another.
    #[error("decided round {found} on disk, where round {expected} belongs: the store is damaged, sync the run anew")]
    Gap {
        /// The round found.
        found: RoundNumber,
        /// The round that belongs there.
        expected: RoundNumber,
    },
    /// A decided round is not valid.
    #[error("round {round} is not valid: {cause}")]
    Round {
        /// The round.
        round: RoundNumber,
        /// Why.
        cause: Invalid,
    },
    /// An entry of the agreement's log cannot be read.
    #[error("entry {entry} of the agreement's log of round {round} cannot be read: the store is damaged; do not vote with this key until the round is decided")]
    Log {
        /// The round.
        round: RoundNumber,
        /// Its place in the log.
        entry: usize,
    },
    /// The agreement's log does not lead to the votes that it holds.
    #[error("the agreement's log of round {round} does not replay: {cause}; do not vote with this key until the round is decided")]
    Replay {
        /// The round.
        round: RoundNumber,
        /// What the engine says.
        cause: String,
    },
    /// The manifest names nobody who may vote.
    #[error("the manifest names no founder with a weight: nobody could decide round 0")]
    NoVoters,
}
