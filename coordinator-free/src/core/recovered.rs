//! What an earlier run of the program left on disk.

use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{Decided, RoundNumber};

use crate::interface::error::Error;
use crate::interface::output::{Apply, Record};
use crate::rules::chain::Chain;
use crate::rules::verified::Verified;

/// What an earlier run of the program left on disk.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The decided history.
    pub chain: Chain,
    /// The last decided rounds, from the one that starts from the weights on disk. The core applies
    /// them again.
    pub unapplied: Vec<Apply>,
    /// Whether this node may begin at round 0 unasked. The creator of the run may, once. A voter
    /// without it and without any record waits until it has heard of the run.
    pub genesis: bool,
    /// The other records, in the order in which the core persisted them. Those of decided rounds
    /// may be missing.
    pub records: Vec<Record>,
}

impl Recovered {
    /// The state of a node that has never run, and may begin at round 0.
    pub fn nothing(manifest: Arc<Manifest>) -> Self {
        Self {
            chain: Chain::genesis(manifest),
            unapplied: Vec::new(),
            genesis: true,
            records: Vec::new(),
        }
    }

    /// Rebuilds the chain from the decided rounds on disk. It trusts them, because the core
    /// verified each one before the caller stored it.
    ///
    /// # Arguments
    /// * `start` – the history before the first round of `decided`: [`Chain::genesis`], or
    ///   [restored](Chain::restore) from one of the
    ///   [starting points](crate::host::retention::starting_points)
    /// * `decided` – every decided round from there on, in order
    /// * `weights` – the round that starts from the weights on disk
    /// * `records` – all other records, in the order in which the core persisted them
    ///
    /// # Errors
    /// [`Error::Gap`] when a round is missing.
    pub fn from_decided(
        start: Chain,
        decided: impl IntoIterator<Item = Decided>,
        weights: RoundNumber,
        records: Vec<Record>,
    ) -> Result<Self, Error> {
        let mut recovered = Self {
            chain: start,
            unapplied: Vec::new(),
            genesis: true,
            records,
        };
        for decided in decided {
            let found = decided.value.round;
            let expected = recovered.chain.round();
            let verified = Verified::from_own_disk(decided);
            let applied = recovered.chain.extend(&verified);
            let apply = applied.map_err(|_| Error::Gap { found, expected })?;
            if found >= weights {
                recovered.unapplied.push(apply);
            }
        }
        Ok(recovered)
    }
}
