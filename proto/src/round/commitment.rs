//! What a peer commits to before anything is revealed.

use crate::envelope::{Kind, Signable};
use crate::error::DecodeError;
use crate::ids::{BlobHash, RoundNumber, Samples, StateRoot};
use crate::message::Wire;
use crate::shape::{Shape, id, plain};
use crate::wire;

/// "I have trained, and this is the hash of what I learnt": said before anything is revealed, so
/// that nobody can copy what he has not committed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// The round trained in.
    pub round: RoundNumber,
    /// State root of the weights the training started from.
    pub base_root: StateRoot,
    /// Hash of the contribution's blob.
    pub blob: BlobHash,
    /// Its length in bytes.
    pub blob_bytes: u64,
    /// Sequences trained on: samples `0..samples` of the peer's own stream.
    pub samples: Samples,
}

impl Signable for Commitment {
    const KIND: Kind = Kind::Commitment;
}

impl Wire for Commitment {
    type Wire = wire::Commitment;
    const SHAPE: Shape = Shape {
        name: "commitment",
        most_bytes: 128,
        fields: &[
            plain(1),
            id(2, "Commitment.base_root"),
            id(3, "Commitment.blob"),
            plain(4),
            plain(5),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::Commitment {
            round: self.round.0,
            base_root: self.base_root.to_wire(),
            blob: self.blob.to_wire(),
            blob_bytes: self.blob_bytes,
            samples: self.samples.0,
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            round: RoundNumber(wire.round),
            base_root: StateRoot::from_wire("Commitment.base_root", &wire.base_root)?,
            blob: BlobHash::from_wire("Commitment.blob", &wire.blob)?,
            blob_bytes: wire.blob_bytes,
            samples: Samples(wire.samples),
        })
    }
}
