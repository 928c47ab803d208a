//! [`StreamDecoder`]: text from tokens as they arrive.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Tokeniser, TokeniserFile, byte_level};
use crate::error::{Error, Result};
use crate::panic::panic_message;

/// Tokens before the next one that its text may depend on.
const WINDOW: usize = 8;
/// Tokens that one character may take; text is held back no longer.
const MOST_HELD: usize = 4;

/// Text from tokens as they arrive, in whole characters. It never fails: bytes that make no
/// character become replacement characters.
pub(crate) struct StreamDecoder<'a> {
    file: Option<&'a TokeniserFile>,
    /// Bytes that do not complete a character yet.
    pending: Vec<u8>,
    /// The last tokens. The text of a token depends on those before it: the first of a text loses
    /// its space.
    window: Vec<u32>,
    /// What has been said of the window's text.
    said: String,
    /// Tokens at the end of the window whose text is held back.
    held: usize,
}

impl Tokeniser {
    /// A decoder that continues a text of these tokens.
    pub(crate) fn stream_after(&self, before: &[u32]) -> StreamDecoder<'_> {
        let file = match self {
            Self::Bytes => None,
            Self::File(file) => Some(&**file),
        };
        let mut stream = StreamDecoder {
            file,
            pending: Vec::new(),
            window: Vec::new(),
            said: String::new(),
            held: 0,
        };
        if let Some(file) = file {
            let shown = before.iter().rev().filter(|token| !file.is_hidden(**token));
            stream.window = shown.take(WINDOW).copied().collect();
            stream.window.reverse();
            stream.said = file.text_of(&stream.window);
        }
        stream
    }
}

impl StreamDecoder<'_> {
    /// The text that `token` completes; empty while a character is incomplete.
    pub(crate) fn push(&mut self, token: u32) -> String {
        let Some(file) = self.file else {
            self.pending.push(u8::try_from(token).unwrap_or(u8::MAX));
            return take_text(&mut self.pending);
        };
        if file.is_hidden(token) {
            return self.finish();
        }
        match file.bytes_of(token) {
            Some(bytes) => {
                self.pending.extend(bytes);
                self.window.push(token);
                let text = take_text(&mut self.pending);
                if !file.decodes_bytes() {
                    self.settle(file);
                }
                text
            }
            None => {
                let broken = self.finish();
                broken + &self.next(file, token)
            }
        }
    }

    /// The text still held back, once no more tokens come: what is incomplete becomes replacement
    /// characters.
    pub(crate) fn finish(&mut self) -> String {
        let mut text = String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned();
        if let Some(file) = self.file.filter(|_| self.held > 0) {
            let whole = file.text_of(&self.window);
            text.push_str(rest_of(&whole, &self.said));
            self.settle(file);
        }
        text
    }

    /// The text of a token that is not made of bytes.
    fn next(&mut self, file: &TokeniserFile, token: u32) -> String {
        self.window.push(token);
        let whole = file.text_of(&self.window);
        let is_open = whole.ends_with(char::REPLACEMENT_CHARACTER) && whole != self.said;
        let may_be_split = file.decoder == Decoding::Other;
        if may_be_split && is_open && self.held < MOST_HELD {
            self.held += 1;
            return String::new();
        }
        let text = rest_of(&whole, &self.said).to_owned();
        self.said = whole;
        self.settle(file);
        text
    }

    /// Everything of the window has been said; forgets its beginning.
    fn settle(&mut self, file: &TokeniserFile) {
        self.held = 0;
        let first = self.window.len().saturating_sub(WINDOW);
        self.window.drain(..first);
        self.said = file.text_of(&self.window);
    }
}

/// What `whole` says beyond `said`. Where they differ, as many characters as were said are skipped.
fn rest_of<'a>(whole: &'a str, said: &str) -> &'a str {
    whole.strip_prefix(said).unwrap_or_else(|| {
        let skipped = whole.char_indices().nth(said.chars().count());
        skipped.map_or("", |(start, _)| &whole[start..])
    })
}

/// Takes the complete characters off the front of `pending`. Bytes that can never complete one
/// become replacement characters.
fn take_text(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    loop {
        match std::str::from_utf8(pending) {
            Ok(whole) => {
                text.push_str(whole);
                pending.clear();
                return text;
            }
            Err(error) => {
                let (whole, rest) = pending.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(whole));
                let Some(wrong) = error.error_len() else {
                    *pending = rest.to_vec();
                    return text;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                *pending = rest.iter().skip(wrong).copied().collect();
            }
        }
    }
}

impl TokeniserFile {
    /// Whether a token is not part of the text that is shown.
    fn is_hidden(&self, token: u32) -> bool {
        let name = self.tokeniser.id_to_token(token);
        let added = self.tokeniser.get_added_vocabulary();
        name.is_none_or(|name| added.is_special_token(&name))
    }

    /// Whether every token is made of bytes.
    fn decodes_bytes(&self) -> bool {
        self.decoder == Decoding::ByteLevel
    }

    /// The bytes of a token that stands for bytes.
    fn bytes_of(&self, token: u32) -> Option<Vec<u8>> {
        let name = self.tokeniser.id_to_token(token)?;
        match self.decoder {
            Decoding::ByteLevel => {
                let bytes: Option<Vec<u8>> = name.chars().map(byte_level::byte_of).collect();
                // An added token stands for its own text.
                Some(bytes.unwrap_or_else(|| name.into_bytes()))
            }
            Decoding::ByteFallback => {
                let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
                let byte = u8::from_str_radix(digits, 16).ok()?;
                (digits.len() == 2).then(|| vec![byte])
            }
            Decoding::Other => None,
        }
    }

    /// The text of these tokens, as a text of its own.
    pub(super) fn text_of(&self, tokens: &[u32]) -> String {
        if self.decodes_bytes() {
            return String::new();
        }
        self.decode(tokens).unwrap_or_else(|_| {
            let names = tokens
                .iter()
                .filter_map(|token| self.tokeniser.id_to_token(*token));
            names.collect()
        })
    }
}

impl TokeniserFile {
    /// Decodes tokens without special ones. Some decoders, such as a `Strip` from the end, panic at
    /// tokens that they do not expect, which a file from outside may choose.
    pub(super) fn decode(&self, tokens: &[u32]) -> Result<String> {
        let decode = AssertUnwindSafe(|| self.tokeniser.decode(tokens, true));
        let decoded =
            catch_unwind(decode).unwrap_or_else(|panic| Err(panic_message(&*panic).into()));
        decoded.map_err(|source| Error::Tokeniser {
            name: "tokenizer.json".to_owned(),
            reason: "it cannot decode its own tokens",
            source,
        })
    }
}

/// How tokens become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoding {
    /// Every letter of a token stands for a byte.
    ByteLevel,
    /// Some tokens, such as `<0x0A>`, stand for a byte.
    ByteFallback,
    Other,
}

impl Decoding {
    pub(super) fn of(tokeniser: &tokenizers::Tokenizer) -> Self {
        let decoder = tokeniser.get_decoder();
        let parts = serde_json::to_string(&decoder).unwrap_or_default();
        match decoder {
            Some(tokenizers::DecoderWrapper::ByteLevel(_)) => Self::ByteLevel,
            Some(_) if parts.contains("\"ByteFallback\"") => Self::ByteFallback,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A tokeniser as Llama 2's: a space before the text, and bytes for what has no token.
    pub(in super::super) fn llama() -> Tokeniser {
        let mut vocabulary = serde_json::Map::new();
        for name in ["<unk>", "<s>", "</s>"] {
            vocabulary.insert(name.to_owned(), vocabulary.len().into());
        }
        for byte in 0..=255 {
            vocabulary.insert(format!("<0x{byte:02X}>"), vocabulary.len().into());
        }
        for name in ["▁", "a", "b", "▁a", "▁b"] {
            vocabulary.insert(name.to_owned(), vocabulary.len().into());
        }
        let added = [(1, "<s>"), (2, "</s>")].map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true })
        });
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added,
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": "▁" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }] },
            "pre_tokenizer": null, "post_processor": null,
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
                { "type": "ByteFallback" }, { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] },
            "model": { "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                "vocab": vocabulary, "merges": ["▁ a", "▁ b"] },
        });
        Tokeniser::from_bytes(json.to_string().as_bytes()).unwrap()
    }

    fn id(name: &str) -> u32 {
        llama().token_of(name).unwrap()
    }

    fn said(before: &[u32], tokens: &[u32]) -> String {
        let tokeniser = llama();
        let mut stream = tokeniser.stream_after(before);
        let mut text: String = tokens.iter().map(|token| stream.push(*token)).collect();
        text.push_str(&stream.finish());
        text
    }

    #[test]
    fn a_stream_returns_whole_characters_only() {
        let mut stream = Tokeniser::Bytes.stream_after(&[]);
        let parts: Vec<String> = "aé世"
            .bytes()
            .map(|byte| stream.push(byte.into()))
            .collect();
        assert_eq!(parts, ["a", "", "é", "", "", "世"]);
        assert_eq!(stream.push(0xff), "\u{fffd}");
        assert_eq!(stream.push(b'b'.into()), "b");
        assert_eq!(stream.push(0xe4), "");
        assert_eq!(stream.finish(), "\u{fffd}");
    }

    #[test]
    fn the_first_word_after_a_prompt_keeps_its_space() {
        let (a, b) = (id("▁a"), id("▁b"));
        assert_eq!(said(&[a, b], &[a, a]), " a a");
        assert_eq!(said(&[], &[a, b]), "a b");
        let long = [a; 100];
        assert_eq!(said(&[], &long), "a".to_owned() + &" a".repeat(99));
    }

    #[test]
    fn bytes_that_make_no_letter_become_marks_and_nothing_breaks_off() {
        let byte = |byte: u8| id(&format!("<0x{byte:02X}>"));
        let a = id("a");
        let tokens = [
            byte(b'\n'),
            byte(0xe4),
            a,
            byte(0xc3),
            byte(0xa9),
            byte(0xc3),
        ];
        assert_eq!(said(&[a], &tokens), "\n\u{fffd}aé\u{fffd}");
        // A byte that was said already stays as it is.
        assert_eq!(
            said(&[a], &[byte(b'A'), byte(0xe4), byte(b'b')]),
            "A\u{fffd}b"
        );
    }

    #[test]
    fn any_tokens_give_text_and_special_tokens_none() {
        let tokeniser = llama();
        let count = tokeniser.vocabulary() as u32;
        let mut stream = tokeniser.stream_after(&[]);
        let mut text = String::new();
        let mut state = 1_u32;
        for _ in 0..2_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(&stream.push((state >> 8) % count));
        }
        assert!(!text.contains("<s>") && !text.contains("<0x"), "{text}");
        assert_eq!(said(&[], &[u32::MAX, 1, id("a"), 2]), "a");
    }

    #[test]
    fn letters_of_several_byte_level_tokens_are_whole() {
        let text = "a 世界 é\u{1f600}";
        let vocabulary: serde_json::Map<_, _> = (0..=255_u8)
            .map(|byte| {
                (
                    byte_level::letter_of(byte).to_string(),
                    u32::from(byte).into(),
                )
            })
            .collect();
        let level = json!({ "type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": true, "use_regex": false });
        let json = json!({ "version": "1.0", "added_tokens": [], "normalizer": null,
            "pre_tokenizer": level, "post_processor": null, "decoder": level,
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [] } });
        let tokeniser = Tokeniser::from_bytes(json.to_string().as_bytes()).unwrap();
        let mut stream = tokeniser.stream_after(&[b'x'.into()]);
        let tokens = tokeniser.encode(text.as_bytes()).unwrap();
        let pieces: Vec<String> = tokens.iter().map(|token| stream.push(*token)).collect();
        assert_eq!(pieces.concat(), text);
        assert!(!pieces.concat().contains('\u{fffd}'));
        assert_eq!(stream.push(0xff) + &stream.finish(), "\u{fffd}");
    }

    #[test]
    fn a_decoder_that_panics_ends_nothing() {
        let json = json!({ "version": "1.0", "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null,
            "decoder": { "type": "Strip", "content": "a", "start": 0, "stop": 3 },
            "model": { "type": "BPE", "vocab": { "a": 0, "b": 1 }, "merges": [] } });
        let tokeniser = Tokeniser::from_bytes(json.to_string().as_bytes()).unwrap();
        assert!(tokeniser.decode(&[0]).is_err());
        let mut stream = tokeniser.stream_after(&[]);
        assert_eq!(stream.push(0) + &stream.push(1), "ab");
    }
}
