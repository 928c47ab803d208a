//! Why a core cannot start.

use thiserror::Error;
use weal_proto::{RoundNumber, RunId};

/// Why a core cannot start. A core that has started never fails: it drops what is wrong and reports
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The store is damaged: decided rounds must follow one another. The cure is to fetch the run
    /// again from peers.
    #[error("the store holds decided round {found} where round {expected} belongs")]
    Gap {
        /// The round that the store holds.
        found: RoundNumber,
        /// The round that belongs in its place.
        expected: RoundNumber,
    },
    /// A snapshot that this run does not follow from. Without it, a node begins at the manifest.
    #[error("the snapshot is of run {run} and version {rules} of the rules")]
    ForeignSnapshot {
        /// The run of the snapshot.
        run: RunId,
        /// The version of the rules under which it was made.
        rules: u32,
    },
    /// Nobody could ever decide round 0.
    #[error("the manifest names no founder with a weight above 0, so nobody can vote")]
    NoVoters,
}
