//! What a peer may say only once.

use weal_proto::{RoundNumber, View, VoteStep};

/// Names a statement that a peer may make only once. An honest peer signs at most one message for
/// each slot, across crashes and restarts: it stores the message before it sends it, and repeats
/// the stored bytes later. Two messages for one slot are equivocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// A peer's commitment in a round.
    Commitment(RoundNumber),
    /// A member's attestation in an attempt of a round.
    Attestation(RoundNumber, u32),
    /// A proposer's round set in a view.
    Proposal(RoundNumber, View),
    /// A voter's vote in one step of a view.
    Vote(RoundNumber, View, VoteStep),
    /// Whom an operator declares gone in a round.
    Recovery(RoundNumber),
}

impl Slot {
    /// The round that the slot belongs to.
    pub const fn round(self) -> RoundNumber {
        match self {
            Self::Commitment(round)
            | Self::Attestation(round, _)
            | Self::Recovery(round)
            | Self::Proposal(round, _)
            | Self::Vote(round, _, _) => round,
        }
    }
}
