//! One part of a corpus, training or held-out, as windows of tokens.

use std::sync::Arc;

use super::shards::Shards;
use super::window::Window;
use crate::data::character_start;
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
    /// Tokenises texts. Each begins with bos if the tokeniser adds it, and ends with the
    /// tokeniser's end-of-text token, or with a line end if each byte is a token.
    pub(super) fn new(texts: &[&[u8]], tokeniser: &Tokeniser) -> Result<Self> {
        let texts = texts.iter().filter(|text| !text.is_empty());
        let Tokeniser::File(_) = tokeniser else {
            let mut bytes = Vec::new();
            for text in texts {
                bytes.extend_from_slice(text);
                if !text.ends_with(b"\n") {
                    bytes.push(b'\n');
                }
            }
            return Ok(Self::Bytes(bytes));
        };
        let special = tokeniser.special();
        let mut all = Tokens::default();
        let mut before = 0;
        for text in texts {
            let tokens = tokeniser.encode_with_ends(text)?;
            // A special token has no text.
            let first = special.first().map(|token| (token, 0));
            let last = special.end_of_text();
            let last = last.map(|token| (token, text.len() as u64));
            let text_tokens = tokens.ids.into_iter().zip(tokens.ends);
            for (token, end) in first.into_iter().chain(text_tokens).chain(last) {
                all.ids.push(token);
                all.ends.push(before + end);
            }
            before += text.len() as u64;
        }
        Ok(Self::Wide(all))
    }

    /// The number of tokens of texts as [`Self::new`] makes them, counted only until there are
    /// `enough`.
    pub(super) fn tokens_up_to(
        texts: &[&[u8]],
        tokeniser: &Tokeniser,
        enough: usize,
    ) -> Result<usize> {
        let mut found = 0;
        for text in texts {
            // No token stands for this many bytes, and few texts need more than one beginning.
            let mut bytes = enough.saturating_mul(16).max(1 << 12);
            loop {
                let end = character_start(text, bytes.min(text.len()));
                let tokens = Self::new(&[&text[..end]], tokeniser)?.len();
                if found + tokens >= enough || end == text.len() {
                    found += tokens;
                    break;
                }
                bytes = bytes.saturating_mul(2);
            }
            if found >= enough {
                break;
            }
        }
        Ok(found)
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
                    learnt: Vec::new(),
                    bytes: context as u64,
                })
            }
            Self::Shards(shards) => shards.window(start, context),
            Self::Wide(tokens) => {
                let ids = tokens.ids.get(first..=last).ok_or_else(outside)?;
                Ok(Window {
                    tokens: ids.to_vec(),
                    learnt: Vec::new(),
                    bytes: tokens.ends[last] - tokens.ends[first],
                })
            }
        }
    }
}
