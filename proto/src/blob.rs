//! The header of a contribution, and the requests by which blobs are fetched chunk by chunk.

use crate::error::DecodeError;
use crate::ids::{BlobHash, LayoutHash, PeerId, RoundNumber, RunId, StateRoot};
use crate::limits;
use crate::message::{Message, Wire, required};
use crate::shape::{Shape, id, one, plain};
use crate::wire;

/// Leads a contribution's blob: a 4-byte little-endian length, this message, then the body of the
/// named codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobHeader {
    /// The run it belongs to.
    pub run: RunId,
    /// The round trained in.
    pub round: RoundNumber,
    /// Who trained.
    pub peer: PeerId,
    /// State root of the weights the training started from.
    pub base_root: StateRoot,
    /// The tensor layout the body is coded for.
    pub layout: LayoutHash,
    /// Version of the body's codec.
    pub codec: u32,
}

impl BlobHeader {
    /// The whole blob: length, header, body.
    pub fn lead(&self, body: &[u8]) -> Vec<u8> {
        let header = self.encode();
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        [length.to_le_bytes().as_slice(), &header, body].concat()
    }

    /// Takes header and body apart.
    ///
    /// # Errors
    /// When the blob is too short for what it says, or the header is not canonical.
    pub fn split(blob: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let short = || DecodeError::Malformed {
            message: "blob",
            cause: "shorter than its header".into(),
        };
        let (length, rest) = blob.split_first_chunk::<4>().ok_or_else(short)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (header, body) = rest.split_at_checked(length).ok_or_else(short)?;
        Ok((Self::decode(header)?, body))
    }
}

impl Wire for BlobHeader {
    type Wire = wire::BlobHeader;
    const SHAPE: Shape = Shape {
        name: "blob header",
        most_bytes: limits::BLOB_HEADER_BYTES,
        fields: &[
            id(1, "BlobHeader.run"),
            plain(2),
            id(3, "BlobHeader.peer"),
            id(4, "BlobHeader.base_root"),
            id(5, "BlobHeader.layout"),
            plain(6),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::BlobHeader {
            run: self.run.to_wire(),
            round: self.round.0,
            peer: self.peer.to_wire(),
            base_root: self.base_root.to_wire(),
            layout: self.layout.to_wire(),
            codec: self.codec,
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            run: RunId::from_wire("BlobHeader.run", &wire.run)?,
            round: RoundNumber(wire.round),
            peer: PeerId::from_wire("BlobHeader.peer", &wire.peer)?,
            base_root: StateRoot::from_wire("BlobHeader.base_root", &wire.base_root)?,
            layout: LayoutHash::from_wire("BlobHeader.layout", &wire.layout)?,
            codec: wire.codec,
        })
    }
}

/// The part of a blob that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobPart {
    /// Its [`Outline`](crate::Outline).
    Outline,
    /// One chunk, by its number. It is answered by its bytes, with nothing around them.
    Chunk(u32),
}

/// Asks for a part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRequest {
    /// The blob.
    pub blob: BlobHash,
    /// The part.
    pub part: BlobPart,
}

const EMPTY: Shape = Shape {
    name: "request for an outline",
    most_bytes: 0,
    fields: &[],
};

impl Wire for BlobRequest {
    type Wire = wire::BlobRequest;
    const SHAPE: Shape = Shape {
        name: "blob request",
        most_bytes: limits::BLOB_REQUEST_BYTES,
        fields: &[id(1, "BlobRequest.blob"), one(2, &EMPTY), plain(3)],
    };

    fn to_wire(&self) -> Self::Wire {
        let part = match self.part {
            BlobPart::Outline => wire::blob_request::Part::Outline(wire::OutlineRequest {}),
            BlobPart::Chunk(index) => wire::blob_request::Part::Chunk(index),
        };
        wire::BlobRequest {
            blob: self.blob.to_wire(),
            part: Some(part),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let part = match required("BlobRequest.part", wire.part)? {
            wire::blob_request::Part::Outline(_) => BlobPart::Outline,
            wire::blob_request::Part::Chunk(index) => BlobPart::Chunk(index),
        };
        Ok(Self {
            blob: BlobHash::from_wire("BlobRequest.blob", &wire.blob)?,
            part,
        })
    }
}
