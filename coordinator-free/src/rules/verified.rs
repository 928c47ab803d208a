//! A decision that may extend the chain.

use weal_proto::{Decided, RoundSetHash};

/// A decided round that has passed every check. `Chain::extend` takes
/// nothing else, so no unchecked decision can become history.
///
/// There are two ways to get one: `round_set::verify`, which checks a decision against the chain,
/// and [`from_own_disk`](Self::from_own_disk).
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    decided: Decided,
    hash: RoundSetHash,
}

impl Verified {
    /// A decision that this node stored itself, after it had verified it. Never pass anything that
    /// came from a peer.
    pub fn from_own_disk(decided: Decided) -> Self {
        Self {
            hash: decided.value.hash(),
            decided,
        }
    }

    /// A decision that has just passed every check; `hash` is the hash of its round set.
    pub(super) const fn after_checks(decided: Decided, hash: RoundSetHash) -> Self {
        Self { decided, hash }
    }

    /// The decision.
    pub const fn decided(&self) -> &Decided {
        &self.decided
    }

    /// The decision, to be stored.
    pub(crate) fn into_decided(self) -> Decided {
        self.decided
    }

    /// The hash of the decided round set.
    pub const fn hash(&self) -> RoundSetHash {
        self.hash
    }
}
