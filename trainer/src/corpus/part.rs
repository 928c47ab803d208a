//! One part of a corpus, training or held-out, as windows of tokens.

use std::sync::Arc;

use super::shards::Shards;
use super::window::Window;
use crate::error::{Error, Result};
use crate::tokeniser::{Tokeniser, Tokens};

/// The tokens of one part.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Bytes, one token each.
    Bytes(Vec<u8>),
    /// Tokens of a tokeniser file.
    Wide(Tokens),
    /// Tokens in shards on disk.
    Shards(Arc<Shards>),
}

impl Part {
    pub(super) fn new(text: Vec<u8>, tokeniser: &Tokeniser) -> Result<Self> {
        Ok(match tokeniser {
            Tokeniser::Bytes => Self::Bytes(text),
            Tokeniser::File(_) => Self::Wide(tokeniser.encode_with_ends(&text)?),
        })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(text) => text.len(),
            Self::Wide(tokens) => tokens.ids.len(),
            Self::Shards(shards) => usize::try_from(shards.tokens()).unwrap_or(usize::MAX),
        }
    }

    /// Windows of `context` predicted tokens.
    pub(super) fn windows(&self, context: usize) -> u64 {
        self.len().saturating_sub(context) as u64
    }

    /// The window of `context` + 1 tokens that begins at `start`.
    pub(super) fn window(&self, start: u64, context: usize) -> Result<Window> {
        let outside = || Error::Window {
            start,
            length: context + 1,
            available: self.len(),
        };
        let first = usize::try_from(start).map_err(|_| outside())?;
        let last = first.checked_add(context).ok_or_else(outside)?;
        match self {
            Self::Bytes(text) => {
                let window = text.get(first..=last).ok_or_else(outside)?;
                Ok(Window {
                    tokens: window.iter().map(|byte| u32::from(*byte)).collect(),
                    bytes: context as u64,
                })
            }
            Self::Shards(shards) => shards.window(start, context),
            Self::Wide(tokens) => {
                let ids = tokens.ids.get(first..=last).ok_or_else(outside)?;
                Ok(Window {
                    tokens: ids.to_vec(),
                    bytes: tokens.ends[last] - tokens.ends[first],
                })
            }
        }
    }
}
