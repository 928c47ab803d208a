//! How a peer takes its leave.

use crate::envelope::{Kind, Signable};
use crate::error::DecodeError;
use crate::ids::RoundNumber;
use crate::message::Wire;
use crate::shape::{Shape, plain};
use crate::wire;

/// "Do not wait for me from this round on."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    /// The first round without this peer.
    pub round: RoundNumber,
}

impl Signable for Leave {
    const KIND: Kind = Kind::Leave;
}

impl Wire for Leave {
    type Wire = wire::Leave;
    const SHAPE: Shape = Shape {
        name: "leave",
        most_bytes: 16,
        fields: &[plain(1)],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::Leave {
            round: self.round.0,
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            round: RoundNumber(wire.round),
        })
    }
}
