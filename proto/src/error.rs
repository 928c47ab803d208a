//! Why bytes from elsewhere were refused.

use thiserror::Error;

use crate::manifest::ManifestError;

/// Why a message was refused while decoding or verifying it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More bytes than any message of this type may have.
    #[error("{message}: {bytes} bytes, at most {limit} are accepted")]
    TooLong {
        /// Type of the message.
        message: &'static str,
        /// Bytes received.
        bytes: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// Not an encoding of the schema's message.
    #[error("{message}: not the schema's encoding: {cause}")]
    Malformed {
        /// Type of the message.
        message: &'static str,
        /// What prost says.
        cause: String,
    },
    /// The schema's message, but not in the one form it is sent in.
    #[error("{message}: not the canonical encoding")]
    NotCanonical {
        /// Type of the message.
        message: &'static str,
    },
    /// A field that must be there is not.
    #[error("{field}: missing")]
    Missing {
        /// The field's name in the schema.
        field: &'static str,
    },
    /// A fixed-size field of another size.
    #[error("{field}: {bytes} bytes, {expected} are expected")]
    WrongLength {
        /// The field's name in the schema.
        field: &'static str,
        /// Bytes received.
        bytes: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// A list with more entries than accepted.
    #[error("{field}: {count} entries, at most {limit} are accepted")]
    TooMany {
        /// The field's name in the schema.
        field: &'static str,
        /// Entries received.
        count: usize,
        /// Entries accepted.
        limit: usize,
    },
    /// A list that is not strictly rising.
    #[error("{field}: entries are not strictly rising")]
    NotSorted {
        /// The field's name in the schema.
        field: &'static str,
    },
    /// A number that stands for nothing.
    #[error("{field}: {value} is not one of the values accepted")]
    UnknownValue {
        /// The field's name in the schema.
        field: &'static str,
        /// The number received.
        value: i64,
    },
    /// An envelope of another kind than asked for.
    #[error("envelope of kind {found}, expected {expected}")]
    WrongKind {
        /// Kind of the envelope.
        found: u32,
        /// Kind expected.
        expected: u32,
    },
    /// An envelope of another run.
    #[error("envelope of another run")]
    WrongRun,
    /// The signature is not the signer's over these bytes.
    #[error("signature does not verify")]
    BadSignature,
    /// The manifest does not add up.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Why an outline or a chunk is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OutlineError {
    /// The outline lists more or fewer chunks than its length needs.
    #[error("the outline of {bytes} bytes lists {got} chunks instead of {expected}")]
    ChunkCount {
        /// Length of the blob in bytes.
        bytes: u64,
        /// Chunks in a blob of that length.
        expected: u64,
        /// Chunks listed.
        got: usize,
    },
    /// The outline belongs to another blob.
    #[error("the outline does not match the blob hash")]
    Hash,
    /// The chunk has another length or hash than the outline says.
    #[error("chunk {index} does not match the outline")]
    Chunk {
        /// Number of the chunk, from 0.
        index: usize,
    },
}
