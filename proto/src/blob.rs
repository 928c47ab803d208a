//! Blob messages: the header of a contribution, and requests for parts of a blob.

use crate::error::DecodeError;
use crate::ids::{BlobHash, LayoutHash, PeerId, RoundNumber, RunId, StateRoot};
use crate::limits;
use crate::message::{Message, Standalone};
use crate::schema::{Value, Wire, message, required};
use crate::shape::{Shape, id, one, plain};
use crate::wire;

message! {
    /// The header of a contribution.
    ///
    /// The blob of a contribution is the length of the header (4 bytes, little-endian), the header,
    /// and the body in the codec that the header names.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct BlobHeader("blob header", limits::BLOB_HEADER_BYTES) {
        /// The run that the contribution belongs to.
        pub run: RunId = 1,
        /// The round trained in.
        pub round: RoundNumber = 2,
        /// The peer that trained.
        pub peer: PeerId = 3,
        /// State root of the weights that the training started from.
        pub base_root: StateRoot = 4,
        /// The tensor layout of the body.
        pub layout: LayoutHash = 5,
        /// Version of the body's codec.
        pub codec: u32 = 6,
    }
}

impl Standalone for BlobHeader {}

impl BlobHeader {
    /// Returns the whole blob: length, header, body.
    pub fn lead(&self, body: &[u8]) -> Vec<u8> {
        let header = self.encode();
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        [length.to_le_bytes().as_slice(), &header, body].concat()
    }

    /// Splits a blob into header and body.
    ///
    /// # Errors
    /// If the blob is shorter than it announces, or the header is not canonical.
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

/// A part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobPart {
    /// The [`Outline`](crate::Outline).
    Outline,
    /// One chunk, by its number from 0. The answer is the plain bytes of the chunk.
    Chunk(u32),
}

/// Asks for a part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRequest {
    /// The blob's name.
    pub blob: BlobHash,
    /// The part asked for.
    pub part: BlobPart,
}

const EMPTY: Shape = Shape {
    name: "request for an outline",
    most_bytes: 0,
    fields: &[],
};

impl Standalone for BlobRequest {}

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
            blob: self.blob.to_field(),
            part: Some(part),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let part = match required("BlobRequest.part", wire.part)? {
            wire::blob_request::Part::Outline(_) => BlobPart::Outline,
            wire::blob_request::Part::Chunk(index) => BlobPart::Chunk(index),
        };
        Ok(Self {
            blob: Value::from_field("BlobRequest.blob", wire.blob)?,
            part,
        })
    }
}
