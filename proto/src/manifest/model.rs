//! The model's sizes, and the tokeniser.

use super::{NAME, NUMBERS_BYTES};
use crate::error::DecodeError;
use crate::ids::BlobHash;
use crate::schema::{Value, Wire, message};
use crate::shape::{Shape, plain};
use crate::wire;

message! {
    /// Sizes of a decoder of the Llama architecture, or of Qwen3's.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Model(NAME, NUMBERS_BYTES) {
        /// Number of token ids.
        pub vocabulary: u32 = 1,
        /// Width of the residual stream.
        pub width: u32 = 2,
        /// Number of blocks, each of attention and feed-forward.
        pub layers: u32 = 3,
        /// Query heads. They share the width evenly unless `head_width` is set.
        pub heads: u32 = 4,
        /// Key and value heads. Must divide the query heads.
        pub kv_heads: u32 = 5,
        /// Inner width of the feed-forward.
        pub feed_forward: u32 = 6,
        /// Tokens in a sequence.
        pub context: u32 = 7,
        /// Whether the output layer uses the embedding's matrix.
        pub tied_embeddings: bool = 8,
        /// Base of the rotary position encoding.
        pub rope_theta: u32 = 9,
        /// Epsilon of the RMS norm, in ppb.
        pub norm_epsilon_ppb: u32 = 10,
        /// Width of a head; 0 means width / heads.
        pub head_width: u32 = 11,
        /// Whether queries and keys are normalised per head before the rotary encoding.
        pub query_key_norm: bool = 12,
        /// Scaling of the rotary frequencies, if any.
        pub rope_scaling: Option<RopeScaling> = 13,
    }
}

message! {
    /// Llama 3.1's scaling of the rotary frequencies.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RopeScaling(NAME, NUMBERS_BYTES) {
        /// Divisor of the low frequencies.
        pub factor_ppm: u32 = 1,
        /// A frequency is low if its wavelength is above `original_context` divided by this.
        pub low_frequency_ppm: u32 = 2,
        /// A frequency is unchanged if its wavelength is below `original_context` divided by this.
        pub high_frequency_ppm: u32 = 3,
        /// Context of the original training, in tokens.
        pub original_context: u32 = 4,
    }
}

impl Model {
    /// Number of trainable parameters.
    pub fn parameters(&self) -> u64 {
        let [vocabulary, width, layers, feed_forward] =
            [self.vocabulary, self.width, self.layers, self.feed_forward].map(u64::from);
        let head_width = match u64::from(self.head_width) {
            0 => width / u64::from(self.heads.max(1)),
            width => width,
        };
        let heads = u64::from(self.heads).saturating_add(self.kv_heads.into());
        let attention = width
            .saturating_mul(heads.saturating_mul(head_width))
            .saturating_mul(2);
        let head_norms = if self.query_key_norm {
            head_width.saturating_mul(2)
        } else {
            0
        };
        let block = attention
            .saturating_add(head_norms)
            .saturating_add(width.saturating_mul(feed_forward).saturating_mul(3))
            .saturating_add(width.saturating_mul(2));
        let embeddings = vocabulary
            .saturating_mul(width)
            .saturating_mul(if self.tied_embeddings { 1 } else { 2 });
        layers
            .saturating_mul(block)
            .saturating_add(embeddings)
            .saturating_add(width)
    }
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokeniser {
    /// One token per byte.
    Bytes,
    /// A `tokenizer.json`, by content.
    File {
        /// Blob hash of the file.
        hash: BlobHash,
        /// Length of the file in bytes.
        bytes: u64,
        /// The token that ends a text, if the tokeniser has one.
        end_of_text: Option<u32>,
    },
}

impl Wire for Tokeniser {
    type Wire = wire::Tokeniser;
    const SHAPE: Shape = Shape {
        name: NAME,
        most_bytes: 64,
        fields: &[plain(1), plain(2), plain(3)],
    };

    fn to_wire(&self) -> Self::Wire {
        match self {
            Self::Bytes => wire::Tokeniser::default(),
            Self::File {
                hash,
                bytes,
                end_of_text,
            } => wire::Tokeniser {
                file: hash.to_field(),
                file_bytes: *bytes,
                end_of_text: end_of_text.map_or(0, |token| token.saturating_add(1)),
            },
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        if wire.file.is_empty() {
            return Ok(Self::Bytes);
        }
        Ok(Self::File {
            hash: Value::from_field("Tokeniser.file", wire.file)?,
            bytes: wire.file_bytes,
            end_of_text: wire.end_of_text.checked_sub(1),
        })
    }
}
