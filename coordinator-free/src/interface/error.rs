//! Why the rules refuse.

use thiserror::Error;
use weal_proto::RoundNumber;

/// What can go wrong before a core runs: afterwards it drops what is wrong, and says so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The decided rounds on disk do not follow one another.
    #[error(
        "decided round {found} on disk, where round {expected} belongs: the store is damaged, sync the run anew"
    )]
    Gap {
        /// The round found.
        found: RoundNumber,
        /// The round that belongs there.
        expected: RoundNumber,
    },
    /// The manifest names nobody who may vote.
    #[error("the manifest names no founder with a weight: nobody could decide round 0")]
    NoVoters,
}
