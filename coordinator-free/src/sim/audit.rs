//! What must never happen.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use weal_proto::{Envelope, PeerId, RoundNumber, RoundSetHash, StateRoot};

use crate::interface::error::Error as CoreError;
use crate::rules::content::Content;
use crate::rules::slot::Slot;

/// What must never happen in a run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// Two honest peers decided differently.
    #[error("honest peers decided round {0} in two different ways")]
    Fork(RoundNumber),
    /// Two honest peers hold different weights for one round, although none of them was damaged.
    #[error("honest peers start round {0} from different weights")]
    Weights(RoundNumber),
    /// An honest peer signed two messages for one slot.
    #[error("honest peer {peer} contradicted itself for {slot:?}")]
    Contradiction {
        /// The peer that contradicted itself.
        peer: PeerId,
        /// The slot that it signed two messages for.
        slot: Slot,
    },
    /// Honest peers banned an honest one.
    #[error("honest peer {0} was banned")]
    Banned(PeerId),
    /// Virtual time ran out before all rounds were decided.
    #[error("stuck: after {virtual_ms} ms of virtual time, peers have decided {decided:?} rounds")]
    Stuck {
        /// The virtual time played, in milliseconds.
        virtual_ms: u64,
        /// The number of rounds that each peer has decided; `None` for peers that are down or away.
        decided: Vec<Option<u64>>,
    },
    /// A peer could not start from what it had stored.
    #[error("peer {peer} cannot start: {cause}")]
    Restart {
        /// The peer's index.
        peer: usize,
        /// The core's error.
        cause: CoreError,
    },
    /// An honest peer's engine refused to continue.
    #[error("the engine of honest peer {peer} failed: {cause}")]
    Engine {
        /// The peer's index.
        peer: usize,
        /// The engine's error.
        cause: String,
    },
    /// A core broke one of its own invariants.
    #[error("the core of peer {peer} is inconsistent: {statement}")]
    Invariant {
        /// The peer's index.
        peer: usize,
        /// The broken statement.
        statement: &'static str,
    },
}

/// Watches everything that honest peers sign, decide and hold.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub honest: BTreeSet<PeerId>,
    signed: BTreeMap<(PeerId, Slot), blake3::Hash>,
    decided: BTreeMap<RoundNumber, RoundSetHash>,
    roots: BTreeMap<RoundNumber, StateRoot>,
}

impl Audit {
    pub(super) fn of(honest: BTreeSet<PeerId>) -> Self {
        Self {
            honest,
            ..Self::default()
        }
    }

    /// A message was sent, by its signer or by a peer that answers a request.
    pub(super) fn sent(&mut self, envelope: &Envelope) -> Result<(), Violation> {
        let peer = envelope.signer;
        if !self.honest.contains(&peer) {
            return Ok(());
        }
        let Some(slot) = Content::decode(envelope)
            .ok()
            .and_then(|content| content.slot())
        else {
            return Ok(());
        };
        let hash = blake3::hash(&envelope.payload);
        let first = *self.signed.entry((peer, slot)).or_insert(hash);
        if first == hash {
            Ok(())
        } else {
            Err(Violation::Contradiction { peer, slot })
        }
    }

    /// An honest peer decided a round.
    pub(super) fn decided(
        &mut self,
        round: RoundNumber,
        hash: RoundSetHash,
    ) -> Result<(), Violation> {
        if *self.decided.entry(round).or_insert(hash) == hash {
            Ok(())
        } else {
            Err(Violation::Fork(round))
        }
    }

    /// An honest peer computed undamaged weights for this round.
    pub(super) fn holds(&mut self, round: RoundNumber, root: StateRoot) -> Result<(), Violation> {
        if *self.roots.entry(round).or_insert(root) == root {
            Ok(())
        } else {
            Err(Violation::Weights(round))
        }
    }
}
