//! The blob of a contribution: a header and a body.

use crate::error::DecodeError;
use crate::ids::{LayoutHash, PeerId, RoundNumber, RunId, StateRoot};
use crate::limits;
use crate::message::{Message, Standalone};
use crate::schema::message;

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
