//! What a tokeniser's special tokens mean.

use serde::{Deserialize, Serialize};

/// What a tokeniser's special tokens mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl SpecialTokens {
    /// No special tokens, as for bytes.
    pub const NONE: Self = Self {
        bos: None,
        eos: Vec::new(),
        pad: None,
        unk: None,
        adds_bos: false,
        adds_eos: false,
    };

    /// The token to put before every text, if the tokeniser does so: before a document that is
    /// trained on, before a prompt, and before a question that is scored.
    pub fn first(&self) -> Option<u32> {
        self.bos.filter(|_| self.adds_bos)
    }

    /// The token that ends a document.
    pub fn end_of_text(&self) -> Option<u32> {
        self.eos.first().copied()
    }

    /// Whether a generated text ends with this token.
    pub fn ends(&self, token: u32) -> bool {
        self.eos.contains(&token)
    }

    /// These tokens with another end of documents. The other ends still end generated texts.
    #[must_use]
    pub fn ending_with(mut self, token: u32) -> Self {
        self.eos.retain(|end| *end != token);
        self.eos.insert(0, token);
        self
    }
}
