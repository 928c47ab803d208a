//! Letters of a text that a tokeniser cannot read.

use serde_json::Value;
use tokenizers::{Encoding, ModelWrapper, Tokenizer};

use super::{TokeniserFile, byte_level};

/// Letters that were not read as they are. White space does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostLetters {
    /// Letters that became the token for what has none.
    pub unknown: u64,
    /// Letters that became no token at all.
    pub dropped: u64,
}

impl LostLetters {
    /// Adds those of another text.
    pub fn add(&mut self, other: Self) {
        self.unknown += other.unknown;
        self.dropped += other.dropped;
    }

    /// Counts the letters of `text` that `encoding` lost.
    pub(super) fn count(&mut self, text: &str, encoding: &Encoding, tokeniser: &TokeniserFile) {
        let has = |name: &str| tokeniser.tokeniser.token_to_id(name).is_some();
        let missing = |lost: &dyn Fn(char) -> bool| {
            let letters = text.chars().filter(|letter| !letter.is_whitespace());
            letters.filter(|letter| lost(*letter)).count() as u64
        };
        match tokeniser.loss {
            Loss::Nothing => {}
            Loss::OfLetters => {
                self.dropped += missing(&|letter| !has(letter.encode_utf8(&mut [0; 4])));
            }
            Loss::OfBytes => {
                let has_byte = |byte| has(byte_level::letter_of(byte).encode_utf8(&mut [0; 4]));
                self.dropped +=
                    missing(&|letter| !letter.encode_utf8(&mut [0; 4]).bytes().all(has_byte));
            }
            Loss::BetweenTokens => self.count_between(text, encoding, tokeniser.special.unk),
        }
    }

    fn count_between(&mut self, text: &str, encoding: &Encoding, unk: Option<u32>) {
        let mut read = 0;
        for (id, (start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            self.dropped += letters(text, read, *start);
            if Some(*id) == unk {
                self.unknown += letters(text, read.max(*start), *end);
            }
            read = read.max(*end);
        }
        self.dropped += letters(text, read, text.len());
    }
}

/// Letters that begin between two bytes of a text.
fn letters(text: &str, start: usize, end: usize) -> u64 {
    let part = text.as_bytes().get(start..end).unwrap_or_default();
    let begins = |byte: &&u8| !matches!(**byte, 0x80..=0xbf) && !byte.is_ascii_whitespace();
    part.iter().filter(begins).count() as u64
}

/// How a tokeniser loses letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Every byte has a token.
    Nothing,
    /// Letters that have no token are dropped. The offsets of the others do not show it.
    OfLetters,
    /// Likewise, letters of which a byte has no token.
    OfBytes,
    /// Letters that no token covers, or only the one for what has none.
    BetweenTokens,
}

impl Loss {
    pub(super) fn of(tokeniser: &Tokenizer) -> Self {
        let value = |part: serde_json::Result<Value>| part.unwrap_or_default();
        let normalizer = value(serde_json::to_value(tokeniser.get_normalizer()));
        let pre_tokenizer = value(serde_json::to_value(tokeniser.get_pre_tokenizer()));
        let ModelWrapper::BPE(model) = tokeniser.get_model() else {
            return Self::BetweenTokens;
        };
        if drops(&normalizer) || drops(&pre_tokenizer) {
            return Self::BetweenTokens;
        }
        let is_byte_level =
            mentions(&normalizer, "ByteLevel") || mentions(&pre_tokenizer, "ByteLevel");
        let has_all = |name: &dyn Fn(u8) -> String| {
            (0..=u8::MAX).all(|byte| tokeniser.token_to_id(&name(byte)).is_some())
        };
        let has_bytes = if is_byte_level {
            has_all(&|byte| byte_level::letter_of(byte).to_string())
        } else {
            model.byte_fallback && has_all(&|byte| format!("<0x{byte:02X}>"))
        };
        match (has_bytes, model.unk_token.is_some(), is_byte_level) {
            (true, ..) => Self::Nothing,
            (false, true, _) => Self::BetweenTokens,
            (false, false, true) => Self::OfBytes,
            (false, false, false) => Self::OfLetters,
        }
    }
}

/// Whether a component of that type appears anywhere.
fn mentions(part: &Value, kind: &str) -> bool {
    match part {
        Value::Object(map) => {
            map.get("type").is_some_and(|t| t == kind) || map.values().any(|v| mentions(v, kind))
        }
        Value::Array(parts) => parts.iter().any(|part| mentions(part, kind)),
        _ => false,
    }
}

/// Whether a component drops letters.
fn drops(part: &Value) -> bool {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let inner = ["normalizers", "pretokenizers"]
        .into_iter()
        .filter_map(|key| part.get(key)?.as_array())
        .flatten();
    match kind {
        "StripAccents" | "BertNormalizer" | "Precompiled" | "Nmt" | "NFKD" | "NFD" => true,
        "Replace" => part.get("content").is_some_and(|content| content == ""),
        "Split" | "Punctuation" => part.get("behavior").is_some_and(|how| how == "Removed"),
        "CharDelimiterSplit" => true,
        _ => inner.into_iter().any(drops),
    }
}
