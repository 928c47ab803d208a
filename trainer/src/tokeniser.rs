//! Tokenisers: one token per byte, or a Hugging Face `tokenizer.json`.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result, Source};
use crate::spec::ModelSpec;

/// Text is encoded in pieces of about this many bytes, each ending with a line.
const PIECE_BYTES: usize = 1 << 16;

/// Usual names of the end-of-text token, most specific first.
const ENDS_OF_TEXT: [&str; 5] = ["<|end_of_text|>", "<|endoftext|>", "</s>", "<eos>", "[EOS]"];

/// How text becomes tokens.
#[derive(Clone, Debug)]
pub enum Tokeniser {
    /// One token per byte: a vocabulary of 256, and any file is valid text.
    Bytes,
    /// A `tokenizer.json`. Needs UTF-8.
    File(Box<TokeniserFile>),
}

/// A parsed `tokenizer.json` with its bytes.
#[derive(Clone, Debug)]
pub struct TokeniserFile {
    tokeniser: tokenizers::Tokenizer,
    json: Arc<[u8]>,
}

impl TokeniserFile {
    /// The file's bytes.
    pub fn json(&self) -> &[u8] {
        &self.json
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
    /// Reads a `tokenizer.json` file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| Error::Tokeniser {
            name: name.clone(),
            reason: "it cannot be read",
            source: error.into(),
        })?;
        Self::parse(&bytes, name)
    }

    /// Parses the bytes of a `tokenizer.json`, such as one fetched from peers by its hash.
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        Self::parse(json, "tokenizer.json".to_owned())
    }

    fn parse(json: &[u8], name: String) -> Result<Self> {
        tokenizers::Tokenizer::from_bytes(json)
            .map(|tokeniser| {
                Self::File(Box::new(TokeniserFile {
                    tokeniser,
                    json: json.into(),
                }))
            })
            .map_err(|source| Error::Tokeniser {
                name,
                reason: "it cannot be parsed",
                source,
            })
    }

    /// The largest token id plus one: the rows that a model's embedding needs.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Bytes => 256,
            Self::File(file) => file
                .tokeniser
                .get_vocab(true)
                .values()
                .max()
                .map_or(0, |id| *id as usize + 1),
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

    /// Encodes `text`, without special tokens. A `tokenizer.json` reads invalid UTF-8 as
    /// replacement characters; a corpus refuses such text earlier.
    pub fn encode(&self, text: &[u8]) -> Result<Vec<u32>> {
        let Self::File(file) = self else {
            return Ok(text.iter().map(|byte| u32::from(*byte)).collect());
        };
        let text = String::from_utf8_lossy(text);
        let mut ids = Vec::with_capacity(text.len() / 3);
        for piece in pieces(&text) {
            let encoding = file
                .tokeniser
                .encode_fast(piece, false)
                .map_err(encode_error)?;
            ids.extend_from_slice(encoding.get_ids());
        }
        Ok(ids)
    }

    /// Decodes `tokens`. Incomplete characters become replacement characters.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        match self {
            Self::Bytes => Ok(String::from_utf8_lossy(&bytes_of(tokens)).into_owned()),
            Self::File(file) => file.tokeniser.decode(tokens, true).map_err(decode_error),
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

    /// The end-of-text token: the one in the `tokenizer_config.json` beside the file at `path`, or
    /// else the first that has one of the usual names.
    pub fn end_of_text(&self, path: &Path) -> Option<u32> {
        let config = path.with_file_name("tokenizer_config.json");
        let config: Option<serde_json::Value> = std::fs::read(config)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok());
        let named = config.as_ref().and_then(|config| {
            let token = config.get("eos_token")?;
            token.as_str().or_else(|| token.get("content")?.as_str())
        });
        named
            .into_iter()
            .chain(ENDS_OF_TEXT)
            .find_map(|name| self.token_of(name))
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
        for piece in pieces(&text) {
            let encoding = file.tokeniser.encode(piece, false).map_err(encode_error)?;
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

    /// A decoder that returns text as tokens arrive, in whole characters.
    pub(crate) fn stream(&self) -> StreamDecoder<'_> {
        match self {
            Self::Bytes => StreamDecoder::Bytes(Vec::new()),
            Self::File(file) => StreamDecoder::File(Box::new(file.tokeniser.decode_stream(true))),
        }
    }
}

/// Text from tokens as they arrive.
pub(crate) enum StreamDecoder<'a> {
    /// Bytes that do not complete a character yet.
    Bytes(Vec<u8>),
    File(Box<FileStream<'a>>),
}

type FileStream<'a> = tokenizers::tokenizer::DecodeStream<
    'a,
    tokenizers::ModelWrapper,
    tokenizers::NormalizerWrapper,
    tokenizers::PreTokenizerWrapper,
    tokenizers::PostProcessorWrapper,
    tokenizers::DecoderWrapper,
>;

impl StreamDecoder<'_> {
    /// The text that `token` completes; empty while a character is incomplete.
    pub(crate) fn push(&mut self, token: u32) -> Result<String> {
        match self {
            Self::Bytes(pending) => {
                pending.push(token as u8);
                Ok(take_text(pending))
            }
            Self::File(stream) => Ok(stream
                .step(token)
                .map_err(decode_error)?
                .unwrap_or_default()),
        }
    }
}

/// Takes the complete characters off the front of `pending`. Bytes that can never complete one
/// become replacement characters.
fn take_text(pending: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(pending) {
        Ok(_) => pending.len(),
        Err(error) => match error.error_len() {
            None => error.valid_up_to(),
            Some(length) => error.valid_up_to() + length,
        },
    };
    let rest = pending.split_off(whole);
    let text = String::from_utf8_lossy(pending).into_owned();
    *pending = rest;
    text
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

fn decode_error(source: Source) -> Error {
    Error::Tokeniser {
        name: "tokenizer.json".to_owned(),
        reason: "it cannot decode its own tokens",
        source,
    }
}

/// Cuts `text` into pieces of at least [`PIECE_BYTES`] bytes, each ending with a line.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = match rest
            .as_bytes()
            .iter()
            .skip(PIECE_BYTES)
            .position(|byte| *byte == b'\n')
        {
            Some(position) => PIECE_BYTES + position + 1,
            None => rest.len(),
        };
        let (piece, after) = rest.split_at(cut);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word-level tokeniser with gaps in its ids. White space belongs to no token.
    const WORDS: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"<unk>":0,"the":1,"sea":2,"é":9},"unk_token":"<unk>"}}"#;

    #[test]
    fn byte_tokens_round_trip() {
        let text = "Grüße, 世界\n";
        let tokens = Tokeniser::Bytes.encode(text.as_bytes()).unwrap();
        assert_eq!(tokens.len(), text.len());
        assert_eq!(Tokeniser::Bytes.decode(&tokens).unwrap(), text);
        assert_eq!(Tokeniser::Bytes.vocabulary(), 256);
    }

    #[test]
    fn a_stream_returns_whole_characters_only() {
        let mut stream = Tokeniser::Bytes.stream();
        let parts: Vec<String> = "aé世"
            .bytes()
            .map(|byte| stream.push(byte.into()).unwrap())
            .collect();
        assert_eq!(parts, ["a", "", "é", "", "", "世"]);
        assert_eq!(stream.push(0xff).unwrap(), "\u{fffd}");
        assert_eq!(stream.push(b'b'.into()).unwrap(), "b");
    }

    #[test]
    fn a_tokeniser_file_counts_every_byte_of_the_text() {
        let tokeniser = Tokeniser::from_bytes(WORDS.as_bytes()).unwrap();
        let tokens = tokeniser
            .encode_with_ends("the sea  é the \n".as_bytes())
            .unwrap();
        assert_eq!(tokens.ids, [1, 2, 9, 1]);
        assert_eq!(tokens.ends, [3, 7, 11, 17]);
        assert_eq!(tokeniser.vocabulary(), 10);
    }

    #[test]
    fn long_text_is_cut_at_lines_and_nothing_is_lost() {
        let text = "the sea\n".repeat(20_000);
        let cut: Vec<&str> = pieces(&text).collect();
        assert!(cut.len() > 1 && cut.iter().all(|piece| piece.ends_with('\n')));
        assert_eq!(cut.concat(), text);
        let tokens = Tokeniser::from_bytes(WORDS.as_bytes())
            .unwrap()
            .encode_with_ends(text.as_bytes())
            .unwrap();
        assert_eq!(tokens.ids.len(), 40_000);
        assert_eq!(*tokens.ends.last().unwrap(), text.len() as u64);
        assert!(tokens.ends.is_sorted());
    }

    #[test]
    fn a_file_that_is_not_a_tokeniser_is_named() {
        let message = Tokeniser::from_bytes(b"{}").unwrap_err().to_string();
        assert!(message.contains("tokenizer.json"), "{message}");
        let message = Tokeniser::from_file(Path::new("/nowhere/t.json"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("/nowhere/t.json"), "{message}");
    }
}
