//! Tokenisers: one token per byte, or a Hugging Face `tokenizer.json`.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Tokeniser`]: text to tokens and back |
//! | `special.rs` | what special tokens mean |
//! | `parse.rs` | reading a tokeniser file |
//! | `beside.rs`, `post_processor.rs` | where that is said: the files of a model's folder |
//! | `settings.rs` | what a run carries of these files |
//! | `stream.rs`, `byte_level.rs` | text from tokens as they arrive |
//! | `chat` | conversations, by the model's chat template |
//! | `continued.rs` | text that continues another |
//! | `lost.rs` | letters that a tokeniser cannot read |

mod beside;
mod byte_level;
mod chat;
mod continued;
mod lost;
mod parse;
mod post_processor;
mod settings;
mod special;
mod stream;

use std::path::Path;
use std::sync::Arc;

use beside::Beside;
pub(crate) use byte_level::letter_of;
pub use chat::{ChatTemplate, ChatTokens, TIME_IN_DATA, message};
use lost::Loss;
pub use lost::LostLetters;
use post_processor::Added;
pub use settings::TokeniserSettings;
pub use special::SpecialTokens;
use stream::Decoding;

use crate::error::{Error, Result, Source};
use crate::spec::ModelSpec;

/// Text is encoded in pieces of about this many bytes, each ending with a line.
const PIECE_BYTES: usize = 1 << 16;

/// How text becomes tokens.
#[derive(Clone, Debug)]
pub enum Tokeniser {
    /// One token per byte: a vocabulary of 256, and any file is valid text.
    Bytes,
    /// A `tokenizer.json`. Needs UTF-8.
    File(Box<TokeniserFile>),
}

/// A parsed `tokenizer.json` with its bytes, what its special tokens mean, and what stands beside
/// it.
#[derive(Clone, Debug)]
pub struct TokeniserFile {
    tokeniser: tokenizers::Tokenizer,
    /// For text that continues another, if that differs.
    continued: Option<Box<tokenizers::Tokenizer>>,
    decoder: Decoding,
    loss: Loss,
    /// Whether a space is put before text that follows a special token, too.
    prefixes_each_part: bool,
    json: Arc<[u8]>,
    /// The largest token id plus one.
    vocabulary: usize,
    /// What the file's post-processor adds.
    added: Added,
    special: SpecialTokens,
    settings: TokeniserSettings,
    notes: Vec<String>,
    /// The note that the end of a text was guessed.
    guess: Option<String>,
}

impl TokeniserFile {
    /// The file's bytes.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// What stands beside the file.
    pub fn settings(&self) -> &TokeniserSettings {
        &self.settings
    }
}

/// The tokens of a text, and where each ends in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub ids: Vec<u32>,
    /// Byte offset of the end of each token, so that a loss can be computed per byte.
    pub ends: Vec<u64>,
}

impl Tokeniser {
    /// Reads a `tokenizer.json` file and what stands beside it: `tokenizer_config.json`,
    /// `special_tokens_map.json`, `added_tokens.json`, `generation_config.json`, `config.json` and
    /// chat templates.
    pub fn from_file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| Error::Tokeniser {
            name: name.clone(),
            reason: "it cannot be read",
            source: error.into(),
        })?;
        let beside = Beside::read(path.parent().unwrap_or(Path::new("")))?;
        TokeniserFile::parse(&bytes, &name, beside)
    }

    /// Parses the bytes of a `tokenizer.json`, such as one fetched from peers by its hash. What its
    /// special tokens mean is said by the file itself, or guessed; see [`Self::with_special`].
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        TokeniserFile::parse(json, "tokenizer.json", Beside::default())
    }

    /// This tokeniser with special tokens that are known from elsewhere, such as from a manifest.
    #[must_use]
    pub fn with_special(mut self, special: SpecialTokens) -> Self {
        if let Self::File(file) = &mut self {
            file.special = special;
            file.guess = None;
        }
        self
    }

    /// This tokeniser with the settings that a run carries.
    #[must_use]
    pub fn with_settings(mut self, settings: TokeniserSettings) -> Self {
        if let Self::File(file) = &mut self {
            file.settings = settings;
        }
        self
    }

    /// What the special tokens mean.
    pub fn special(&self) -> &SpecialTokens {
        match self {
            Self::Bytes => const { &SpecialTokens::NONE },
            Self::File(file) => &file.special,
        }
    }

    /// What stands beside a `tokenizer.json`; `None` for bytes.
    pub fn settings(&self) -> Option<&TokeniserSettings> {
        match self {
            Self::Bytes => None,
            Self::File(file) => Some(&file.settings),
        }
    }

    /// What was guessed, ignored or left out when the files were read, for people.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        let file = match self {
            Self::Bytes => None,
            Self::File(file) => Some(file),
        };
        file.into_iter()
            .flat_map(|file| file.notes.iter().chain(&file.guess))
            .map(String::as_str)
    }

    /// The largest token id plus one: the rows that a model's embedding needs.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Bytes => 256,
            Self::File(file) => file.vocabulary,
        }
    }

    /// Checks that the model has an embedding for every token.
    pub(crate) fn check_fits(&self, model: &ModelSpec) -> Result<()> {
        let tokeniser = self.vocabulary();
        if tokeniser > model.vocabulary {
            return Err(Error::Vocabulary {
                tokeniser,
                model: model.vocabulary,
            });
        }
        Ok(())
    }

    /// Encodes a text, without special tokens: what looks like one in the text is text. A
    /// `tokenizer.json` reads invalid UTF-8 as replacement characters; a corpus refuses such text
    /// earlier.
    pub fn encode(&self, text: &[u8]) -> Result<Vec<u32>> {
        self.encode_part(text, Place::Start, &mut LostLetters::default())
    }

    /// Encodes text that continues another text.
    pub fn encode_on(&self, text: &[u8]) -> Result<Vec<u32>> {
        self.encode_part(text, Place::Within, &mut LostLetters::default())
    }

    /// Encodes a text or what continues one, and counts the letters that the tokeniser cannot read.
    pub(crate) fn encode_part(
        &self,
        text: &[u8],
        place: Place,
        lost: &mut LostLetters,
    ) -> Result<Vec<u32>> {
        let Self::File(file) = self else {
            return Ok(text.iter().map(|byte| u32::from(*byte)).collect());
        };
        let text = String::from_utf8_lossy(text);
        let mut ids = Vec::with_capacity(text.len() / 3);
        for (piece, tokeniser) in file.pieces(&text, place) {
            let encoding = if file.loss != Loss::Nothing {
                let encoding = tokeniser.encode(piece, false).map_err(encode_error)?;
                lost.count(piece, &encoding, file);
                encoding
            } else {
                tokeniser.encode_fast(piece, false).map_err(encode_error)?
            };
            ids.extend_from_slice(encoding.get_ids());
        }
        Ok(ids)
    }

    /// Counts the letters of a text that the tokeniser cannot read.
    pub fn lost_letters(&self, text: &[u8]) -> Result<LostLetters> {
        let mut lost = LostLetters::default();
        if matches!(self, Self::File(file) if file.loss != Loss::Nothing) {
            self.encode_part(text, Place::Start, &mut lost)?;
        }
        Ok(lost)
    }

    /// Decodes `tokens`. Incomplete characters become replacement characters.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        match self {
            Self::Bytes => Ok(String::from_utf8_lossy(&bytes_of(tokens)).into_owned()),
            Self::File(file) => file.decode(tokens),
        }
    }

    /// A token's name in the `tokenizer.json`. Byte tokens have no names.
    pub fn name_of(&self, token: u32) -> Option<String> {
        match self {
            Self::Bytes => None,
            Self::File(file) => file.tokeniser.id_to_token(token),
        }
    }

    /// The token with that name, special tokens included.
    pub fn token_of(&self, name: &str) -> Option<u32> {
        match self {
            Self::Bytes => None,
            Self::File(file) => file.tokeniser.token_to_id(name),
        }
    }

    pub(crate) fn encode_with_ends(&self, text: &[u8]) -> Result<Tokens> {
        let file = match self {
            Self::Bytes => {
                let ids = text.iter().map(|byte| u32::from(*byte)).collect();
                return Ok(Tokens {
                    ids,
                    ends: (1..=text.len() as u64).collect(),
                });
            }
            Self::File(file) => file,
        };
        let text = String::from_utf8_lossy(text);
        let mut tokens = Tokens::default();
        let mut before = 0;
        for (piece, tokeniser) in file.pieces(&text, Place::Start) {
            let encoding = tokeniser.encode(piece, false).map_err(encode_error)?;
            tokens.ids.extend_from_slice(encoding.get_ids());
            tokens.ends.extend(
                encoding
                    .get_offsets()
                    .iter()
                    .map(|(_, end)| before + *end as u64),
            );
            before += piece.len() as u64;
        }
        // Characters that a normaliser dropped at the end belong to the last token.
        if let Some(end) = tokens.ends.last_mut() {
            *end = before;
        }
        Ok(tokens)
    }
}

/// Where in a text something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At its start. Some tokenisers put a space there.
    Start,
    /// After other text.
    Within,
}

impl TokeniserFile {
    /// The pieces of a text, each with the tokeniser for its place.
    fn pieces<'a>(
        &'a self,
        text: &'a str,
        place: Place,
    ) -> impl Iterator<Item = (&'a str, &'a tokenizers::Tokenizer)> {
        let within = self.continued.as_deref().unwrap_or(&self.tokeniser);
        let first = match place {
            Place::Start => &self.tokeniser,
            Place::Within => within,
        };
        let tokenisers = std::iter::once(first).chain(std::iter::repeat(within));
        pieces(text).zip(tokenisers)
    }
}

fn bytes_of(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().map(|token| *token as u8).collect()
}

fn encode_error(source: Source) -> Error {
    Error::Tokeniser {
        name: "tokenizer.json".to_owned(),
        reason: "it cannot encode the text",
        source,
    }
}

/// Cuts `text` into pieces of at least [`PIECE_BYTES`] bytes, each ending with a line. The next
/// piece does not begin with white space: tokenisers read white space together.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends_line = |pair: &[u8]| matches!(pair, [b'\n', next] if !next.is_ascii_whitespace());
        let after = rest.as_bytes().get(PIECE_BYTES..).unwrap_or_default();
        let cut = match after.windows(2).position(ends_line) {
            Some(position) => PIECE_BYTES + position + 1,
            None => rest.len(),
        };
        let (piece, after) = rest.split_at(cut);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests;
