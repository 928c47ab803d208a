//! How voters agree on a round set: proposals and votes.

use crate::envelope::{Kind, Signable};
use crate::error::DecodeError;
use crate::ids::{RoundNumber, RoundSetHash, View};
use crate::limits;
use crate::message::Standalone;
use crate::schema::{Value, Wire, message, numbered};
use crate::shape::{Shape, id, plain};
use crate::wire;

/// A proposer's value for a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The round to decide.
    pub round: RoundNumber,
    /// The view of this proposal.
    pub view: View,
    /// An earlier view in which more than two thirds of the weight prevoted this value.
    pub proof_of_lock: Option<View>,
    /// The proposed round set. It travels beside the proposal's envelope.
    pub value: RoundSetHash,
}

impl Standalone for Proposal {}

impl Signable for Proposal {
    const KIND: Kind = Kind::Proposal;
}

impl Wire for Proposal {
    type Wire = wire::Proposal;
    const SHAPE: Shape = Shape {
        name: "proposal",
        most_bytes: limits::PROPOSAL_BYTES,
        fields: &[plain(1), plain(2), plain(3), id(4, "Proposal.value")],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::Proposal {
            round: self.round.0,
            view: self.view.0,
            proof_of_lock_view_plus_one: self
                .proof_of_lock
                .map_or(0, |view| view.0.saturating_add(1)),
            value: self.value.to_field(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let proof_of_lock = wire.proof_of_lock_view_plus_one.checked_sub(1).map(View);
        if proof_of_lock.is_some_and(|lock| lock.0 >= wire.view) {
            return Err(DecodeError::UnknownValue {
                field: "Proposal.proof_of_lock_view_plus_one",
                value: i64::from(wire.proof_of_lock_view_plus_one),
            });
        }
        Ok(Self {
            round: RoundNumber(wire.round),
            view: View(wire.view),
            proof_of_lock,
            value: Value::from_field("Proposal.value", wire.value)?,
        })
    }
}

numbered! {
    /// The two votes of Tendermint.
    pub enum VoteStep: i32 {
        /// "This round set may be decided."
        Prevote = 1,
        /// "I saw more than two thirds of the weight prevote it."
        Precommit = 2,
    }
}

message! {
    /// A vote for a round set, or for nil.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Vote("vote", limits::VOTE_BYTES) {
        /// The round to decide.
        pub round: RoundNumber = 1,
        /// The view of this vote.
        pub view: View = 2,
        /// Whether this is a prevote or a precommit.
        pub step: VoteStep = 3,
        /// The round set voted for; `None` is a vote for nil.
        pub value: Option<RoundSetHash> = 4,
    }
}

impl Standalone for Vote {}

impl Signable for Vote {
    const KIND: Kind = Kind::Vote;
}
