//! What voters say to agree on a round set: proposals and votes.

use super::RoundSet;
use crate::envelope::{Kind, Signable};
use crate::error::DecodeError;
use crate::ids::{RoundNumber, RoundSetHash, View};
use crate::limits;
use crate::message::{Wire, required};
use crate::shape::{Shape, one, plain};
use crate::wire;

/// A proposer's value for a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The round to decide.
    pub round: RoundNumber,
    /// The attempt this proposal belongs to.
    pub view: View,
    /// An earlier view than this one, in which more than two thirds of the weight prevoted this
    /// value.
    pub proof_of_lock: Option<View>,
    /// The value.
    pub value: RoundSet,
}

impl Signable for Proposal {
    const KIND: Kind = Kind::Proposal;
}

impl Wire for Proposal {
    type Wire = wire::Proposal;
    const SHAPE: Shape = Shape {
        name: "proposal",
        most_bytes: limits::PAYLOAD_BYTES,
        fields: &[plain(1), plain(2), plain(3), one(4, &RoundSet::SHAPE)],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::Proposal {
            round: self.round.0,
            view: self.view.0,
            proof_of_lock_view_plus_one: self
                .proof_of_lock
                .map_or(0, |view| view.0.saturating_add(1)),
            value: Some(self.value.to_wire()),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let proof_of_lock = wire.proof_of_lock_view_plus_one.checked_sub(1).map(View);
        if proof_of_lock.is_some_and(|lock| lock.0 >= wire.view) {
            let value = i64::from(wire.proof_of_lock_view_plus_one);
            return Err(DecodeError::UnknownValue {
                field: "Proposal.proof_of_lock_view_plus_one",
                value,
            });
        }
        Ok(Self {
            round: RoundNumber(wire.round),
            view: View(wire.view),
            proof_of_lock,
            value: RoundSet::from_wire(required("Proposal.value", wire.value)?)?,
        })
    }
}

/// The two votes of Tendermint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteStep {
    /// "This value may be decided."
    Prevote,
    /// "I saw more than two thirds prevote it."
    Precommit,
}

impl VoteStep {
    pub(super) fn to_wire(self) -> i32 {
        match self {
            Self::Prevote => wire::VoteStep::Prevote.into(),
            Self::Precommit => wire::VoteStep::Precommit.into(),
        }
    }

    pub(super) fn from_wire(field: &'static str, number: i32) -> Result<Self, DecodeError> {
        match wire::VoteStep::try_from(number) {
            Ok(wire::VoteStep::Prevote) => Ok(Self::Prevote),
            Ok(wire::VoteStep::Precommit) => Ok(Self::Precommit),
            _ => Err(DecodeError::UnknownValue {
                field,
                value: i64::from(number),
            }),
        }
    }
}

/// A vote for a value, or for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// The round to decide.
    pub round: RoundNumber,
    /// The attempt.
    pub view: View,
    /// Which of the two votes.
    pub step: VoteStep,
    /// The round set voted for; `None` is nil.
    pub value: Option<RoundSetHash>,
}

impl Signable for Vote {
    const KIND: Kind = Kind::Vote;
}

impl Wire for Vote {
    type Wire = wire::Vote;
    const SHAPE: Shape = Shape {
        name: "vote",
        most_bytes: 64,
        fields: &[plain(1), plain(2), plain(3), plain(4)],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::Vote {
            round: self.round.0,
            view: self.view.0,
            step: self.step.to_wire(),
            value: optional_to_wire(self.value),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            round: RoundNumber(wire.round),
            view: View(wire.view),
            step: VoteStep::from_wire("Vote.step", wire.step)?,
            value: optional_from_wire("Vote.value", &wire.value)?,
        })
    }
}

pub(super) fn optional_to_wire(value: Option<RoundSetHash>) -> Vec<u8> {
    value.map_or_else(Vec::new, RoundSetHash::to_wire)
}

pub(super) fn optional_from_wire(
    field: &'static str,
    bytes: &[u8],
) -> Result<Option<RoundSetHash>, DecodeError> {
    if bytes.is_empty() {
        Ok(None)
    } else {
        RoundSetHash::from_wire(field, bytes).map(Some)
    }
}
