//! What must never happen.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use weal_proto::{Envelope, PeerId, RoundNumber, RoundSetHash, StateRoot};

use crate::interface::error::Error as CoreError;
use crate::rules::evidence::Slot;

/// What a run showed that it must never show.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// Two honest peers decided differently.
    #[error("round {0} was decided in two ways")]
    Fork(RoundNumber),
    /// Two honest peers hold different weights.
    #[error("honest peers start round {0} from different weights")]
    Weights(RoundNumber),
    /// An honest key contradicted itself.
    #[error("honest peer {peer} contradicted itself in {slot:?}")]
    Contradiction {
        /// Whose key.
        peer: PeerId,
        /// Where.
        slot: Slot,
    },
    /// Honest peers banned an honest one.
    #[error("honest peer {0} was banned")]
    Banned(PeerId),
    /// Not all rounds were decided.
    #[error("stuck: after {virtual_ms} ms of virtual time, peers have decided {decided:?} rounds")]
    Stuck {
        /// How long it was played.
        virtual_ms: u64,
        /// Rounds decided by each peer; `None` for those that are not there.
        decided: Vec<Option<u64>>,
    },
    /// A peer could not start from what it had persisted.
    #[error("peer {peer} cannot start: {cause}")]
    Restart {
        /// Which peer.
        peer: usize,
        /// Why.
        cause: CoreError,
    },
    /// A core reported that its engine refused to go on.
    #[error("the engine of honest peer {peer} failed: {cause}")]
    Engine {
        /// Which peer.
        peer: usize,
        /// What it said.
        cause: String,
    },
}

/// Watches everything that honest peers say, decide and hold.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub honest: BTreeSet<PeerId>,
    spoken: BTreeMap<(PeerId, Slot), blake3::Hash>,
    decided: BTreeMap<RoundNumber, RoundSetHash>,
    roots: BTreeMap<RoundNumber, StateRoot>,
}

impl Audit {
    pub fn of(honest: BTreeSet<PeerId>) -> Self {
        Self {
            honest,
            ..Self::default()
        }
    }

    /// A message on the wire, whoever carries it.
    pub fn sent(&mut self, envelope: &Envelope) -> Result<(), Violation> {
        let peer = envelope.signer;
        if !self.honest.contains(&peer) {
            return Ok(());
        }
        let Ok(Some(slot)) = Slot::of(envelope) else {
            return Ok(());
        };
        let hash = blake3::hash(&envelope.payload);
        let first = *self.spoken.entry((peer, slot)).or_insert(hash);
        if first == hash {
            Ok(())
        } else {
            Err(Violation::Contradiction { peer, slot })
        }
    }

    pub fn decided(&mut self, round: RoundNumber, hash: RoundSetHash) -> Result<(), Violation> {
        if *self.decided.entry(round).or_insert(hash) == hash {
            Ok(())
        } else {
            Err(Violation::Fork(round))
        }
    }

    /// Weights that an honest peer starts a round from, when they were not damaged.
    pub fn holds(&mut self, round: RoundNumber, root: StateRoot) -> Result<(), Violation> {
        if *self.roots.entry(round).or_insert(root) == root {
            Ok(())
        } else {
            Err(Violation::Weights(round))
        }
    }
}
