//! Why bytes from a stranger were refused.

use thiserror::Error;

/// Why a message could not be decoded or verified.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The message has more bytes than its type allows.
    #[error("{message}: {bytes} bytes exceed the limit of {limit}")]
    TooLong {
        /// Name of the message.
        message: &'static str,
        /// Bytes received.
        bytes: usize,
        /// Limit in bytes.
        limit: usize,
    },
    /// The bytes do not encode a message of the schema.
    #[error("{message}: malformed: {cause}")]
    Malformed {
        /// Name of the message.
        message: &'static str,
        /// What is wrong with the bytes.
        cause: String,
    },
    /// The bytes encode a message, but not in its canonical form.
    #[error("{message}: not the canonical encoding")]
    NotCanonical {
        /// Name of the message.
        message: &'static str,
    },
    /// A required field is missing.
    #[error("{field}: missing")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// A field of fixed length has another length.
    #[error("{field}: {bytes} bytes instead of {expected}")]
    WrongLength {
        /// Name of the field.
        field: &'static str,
        /// Bytes received.
        bytes: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// A list has more entries than its limit.
    #[error("{field}: {count} entries exceed the limit of {limit}")]
    TooMany {
        /// Name of the field.
        field: &'static str,
        /// Entries received.
        count: usize,
        /// Limit on the entries.
        limit: usize,
    },
    /// A list is not sorted, or has an entry twice.
    #[error("{field}: entries are not strictly rising")]
    NotSorted {
        /// Name of the field.
        field: &'static str,
    },
    /// A number has no meaning.
    #[error("{field}: unknown value {value}")]
    UnknownValue {
        /// Name of the field.
        field: &'static str,
        /// The number received.
        value: i64,
    },
    /// The envelope is of another kind than expected.
    #[error("the envelope is of kind {found} instead of {expected}")]
    WrongKind {
        /// Kind of the envelope.
        found: u32,
        /// Kind expected.
        expected: u32,
    },
    /// The envelope belongs to another run.
    #[error("the envelope belongs to another run")]
    WrongRun,
    /// The signature is not valid.
    #[error("the signature is not valid")]
    BadSignature,
    /// The run follows other rules than this program.
    #[error(
        "the run follows version {found} of the rules, and this program version {expected}: use a \
         version of weal that follows the run's"
    )]
    OtherRules {
        /// The run's version.
        found: u32,
        /// This program's version.
        expected: u32,
    },
    /// The manifest breaks a rule.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// A manifest breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("manifest: {key} is {value}; accepted: {accepted}")]
pub struct ManifestError {
    /// Path of the key in the manifest, for example `inner.steps`.
    pub key: &'static str,
    /// Value of the key.
    pub value: String,
    /// The values accepted.
    pub accepted: String,
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
