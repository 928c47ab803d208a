//! What is trained on.

use super::{NAME, NUMBERS_BYTES};
use crate::error::DecodeError;
use crate::ids::BlobHash;
use crate::limits;
use crate::schema::{Value, Wire, message};
use crate::shape::{self, Shape, one, plain};
use crate::wire;

/// What is trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Text files, by content, in this order.
    Sources(Vec<DataSource>),
    /// Tokens prepared in advance.
    Prepared(PreparedTokens),
    /// The built-in generator of text.
    Generator {
        /// Seed of the generator.
        seed: u64,
        /// Bytes of text to generate.
        bytes: u64,
    },
}

message! {
    /// A text file.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct DataSource(NAME, limits::NAME_BYTES + 64) {
        /// Name of the file for people. It must not lead out of a folder.
        pub name: String = 1,
        /// Blob hash of the file.
        pub hash: BlobHash = 2,
        /// Length of the file.
        pub bytes: u64 = 3,
    }
}

message! {
    /// Tokens prepared in advance with the run's tokeniser.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PreparedTokens(NAME, limits::MANIFEST_BYTES) {
        /// Bytes per token in a shard: 2 or 4.
        pub token_bytes: u32 = 1,
        /// Tokens to train on.
        pub training: TokenPart = 2,
        /// Held-out tokens, to measure the loss on.
        pub heldout: TokenPart = 3,
    }
}

message! {
    /// The training part or the held-out part of prepared tokens.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TokenPart(NAME, limits::MANIFEST_BYTES) {
        /// Bytes of the text before it was tokenised.
        pub text_bytes: u64 = 1,
        /// The shards, in this order.
        pub shards: Vec<TokenShard> = 2[limits::SHARDS],
    }
}

message! {
    /// A file of tokens, by content.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TokenShard(NAME, 64) {
        /// Blob hash of the file.
        pub hash: BlobHash = 1,
        /// Length of the file.
        pub bytes: u64 = 2,
        /// Number of tokens in the file.
        pub tokens: u64 = 3,
    }
}

const GENERATOR: Shape = Shape {
    name: NAME,
    most_bytes: NUMBERS_BYTES,
    fields: &[plain(1), plain(2)],
};

impl Wire for Data {
    type Wire = wire::Data;
    const SHAPE: Shape = Shape {
        name: NAME,
        most_bytes: limits::MANIFEST_BYTES,
        fields: &[
            shape::list(1, "Data.sources", limits::SOURCES, &DataSource::SHAPE),
            one(2, &GENERATOR),
            one(3, &PreparedTokens::SHAPE),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        let none = wire::Data::default();
        match self {
            Self::Sources(sources) => wire::Data {
                sources: sources.to_field(),
                ..none
            },
            Self::Prepared(tokens) => wire::Data {
                prepared: tokens.to_field(),
                ..none
            },
            Self::Generator { seed, bytes } => wire::Data {
                generator: Some(wire::Generator {
                    seed: *seed,
                    bytes: *bytes,
                }),
                ..none
            },
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let kinds = [
            !wire.sources.is_empty(),
            wire.generator.is_some(),
            wire.prepared.is_some(),
        ];
        let count = kinds.into_iter().filter(|present| *present).count();
        if count > 1 {
            return Err(DecodeError::TooMany {
                field: "Data.sources, generator, prepared",
                count,
                limit: 1,
            });
        }
        if let Some(wire::Generator { seed, bytes }) = wire.generator {
            return Ok(Self::Generator { seed, bytes });
        }
        if let Some(tokens) = wire.prepared {
            return PreparedTokens::from_wire(tokens).map(Self::Prepared);
        }
        Value::from_field("Data.sources", wire.sources).map(Self::Sources)
    }
}
