//! The tokeniser, and what its special tokens mean.

use super::NAME;
use crate::error::DecodeError;
use crate::ids::BlobHash;
use crate::limits;
use crate::schema::{Value, Wire};
use crate::shape::{Shape, one, plain};
use crate::wire;

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
        /// What its special tokens mean.
        special: SpecialTokens,
        /// What a model's folder says beside the file, such as its chat template. Training needs
        /// none of it.
        settings: Option<TokeniserSettings>,
    },
}

/// A JSON document of a tokeniser's settings, by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokeniserSettings {
    /// Blob hash of the document.
    pub hash: BlobHash,
    /// Length of the document in bytes.
    pub bytes: u64,
}

/// What a tokeniser's special tokens mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Stands at the beginning of a text.
    pub bos: Option<u32>,
    /// Each ends a generated text; the first ends a document that is trained on.
    pub eos: Vec<u32>,
    /// Fills up short texts.
    pub pad: Option<u32>,
    /// Stands for what has no token.
    pub unk: Option<u32>,
    /// Whether the tokeniser puts `bos` before every text.
    pub adds_bos: bool,
    /// Whether the tokeniser puts the first of `eos` after every text.
    pub adds_eos: bool,
}

impl Wire for SpecialTokens {
    type Wire = wire::SpecialTokens;
    const SHAPE: Shape = Shape {
        name: NAME,
        // A packed token has at most five bytes.
        most_bytes: limits::EOS_TOKENS * 5 + 64,
        fields: &[plain(1), plain(2), plain(3), plain(4), plain(5), plain(6)],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::SpecialTokens {
            bos: plus_one(self.bos),
            eos: self.eos.clone(),
            pad: plus_one(self.pad),
            unk: plus_one(self.unk),
            adds_bos: self.adds_bos,
            adds_eos: self.adds_eos,
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        Ok(Self {
            bos: wire.bos.checked_sub(1),
            eos: wire.eos,
            pad: wire.pad.checked_sub(1),
            unk: wire.unk.checked_sub(1),
            adds_bos: wire.adds_bos,
            adds_eos: wire.adds_eos,
        })
    }
}

impl Wire for Tokeniser {
    type Wire = wire::Tokeniser;
    const SHAPE: Shape = Shape {
        name: NAME,
        most_bytes: 128 + SpecialTokens::SHAPE.most_bytes,
        fields: &[
            plain(1),
            plain(2),
            one(3, &SpecialTokens::SHAPE),
            plain(4),
            plain(5),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        match self {
            Self::Bytes => wire::Tokeniser::default(),
            Self::File {
                hash,
                bytes,
                special,
                settings,
            } => wire::Tokeniser {
                file: hash.to_field(),
                file_bytes: *bytes,
                special: special.to_field(),
                settings: settings.map_or_else(Vec::new, |settings| settings.hash.to_field()),
                settings_bytes: settings.map_or(0, |settings| settings.bytes),
            },
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        if wire.file.is_empty() {
            return Ok(Self::Bytes);
        }
        let settings = match wire.settings.is_empty() {
            true => None,
            false => Some(TokeniserSettings {
                hash: Value::from_field("Tokeniser.settings", wire.settings)?,
                bytes: wire.settings_bytes,
            }),
        };
        Ok(Self::File {
            hash: Value::from_field("Tokeniser.file", wire.file)?,
            bytes: wire.file_bytes,
            special: Value::from_field("Tokeniser.special", wire.special)?,
            settings,
        })
    }
}

fn plus_one(token: Option<u32>) -> u32 {
    token.map_or(0, |token| token.saturating_add(1))
}
