//! Tokenisers in other programs' terms: byte tokens as a `tokenizer.json`, and any tokeniser as
//! GGUF's lists of tokens.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{merges, pieces, words};
use crate::tokeniser::{SpecialTokens, Tokeniser, letter_of};

/// The `tokenizer.json` of a tokeniser; for byte tokens, an equivalent one.
pub(super) fn tokenizer_json(tokeniser: &Tokeniser) -> Vec<u8> {
    match tokeniser {
        Tokeniser::Bytes => format!("{:#}\n", byte_level()).into_bytes(),
        Tokeniser::File(file) => file.json().to_vec(),
    }
}

/// Byte-level BPE without any merge: token i is byte i.
fn byte_level() -> Value {
    let vocabulary: Map<String, Value> = (0..=255)
        .map(|byte| (letter_of(byte).to_string(), json!(u32::from(byte))))
        .collect();
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": bytes,
        "post_processor": null,
        "decoder": bytes,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": [],
        },
    })
}

/// GGUF's token types.
pub(super) mod kind {
    pub(crate) const NORMAL: i32 = 1;
    pub(crate) const UNKNOWN: i32 = 2;
    pub(crate) const CONTROL: i32 = 3;
    pub(crate) const USER_DEFINED: i32 = 4;
    pub(crate) const UNUSED: i32 = 5;
    pub(crate) const BYTE: i32 = 6;
}

/// A tokeniser in GGUF's terms.
#[derive(Debug, PartialEq)]
pub(super) struct Vocabulary {
    /// `tokenizer.ggml.model`: `gpt2` for byte-level BPE, `llama` for SentencePiece.
    pub model: &'static str,
    /// `tokenizer.ggml.pre`: how text is split into words first.
    pub words: &'static str,
    /// Tokens by id.
    pub tokens: Vec<String>,
    /// The type of each token, from [`kind`].
    pub kinds: Vec<i32>,
    /// Scores of SentencePiece tokens; a pair merged earlier has a higher score.
    pub scores: Option<Vec<f32>>,
    /// Merges in order: two tokens with a space between them.
    pub merges: Vec<String>,
    /// Whether the tokeniser puts a space before a text.
    pub space_before: bool,
    /// The unknown token.
    pub unknown: Option<u32>,
    /// A token that no text has: an unused one, or the byte 0xff.
    pub never: Option<u32>,
    /// Where llama.cpp reads text otherwise.
    pub caveat: Option<&'static str>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// A merge, in both forms that `tokenizer.json` has had.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

/// Converts a tokeniser for a model of `rows` embeddings.
///
/// # Errors
/// If GGUF cannot express the tokeniser.
pub(super) fn vocabulary(tokeniser: &Tokeniser, rows: usize) -> Result<Vocabulary, String> {
    let file: File =
        serde_json::from_slice(&tokenizer_json(tokeniser)).map_err(|error| error.to_string())?;
    file.model.check()?;
    let style = file.style()?;
    let list = file.list(rows, &named_special(tokeniser.special()))?;
    let merges: Vec<String> = file.model.merges.iter().map(Merge::joined).collect();
    let is_bytes = matches!(style, Style::Bytes { .. });
    let last_byte = if is_bytes { "ÿ" } else { "<0xFF>" };
    let find = |text: &str| list.tokens.iter().position(|token| token == text);
    let unused = list.kinds.iter().position(|kind| *kind == kind::UNUSED);
    let unknown = file.model.unk_token.as_deref().and_then(find);
    let never = unused.or_else(|| find(last_byte));
    let id = |index: Option<usize>| index.and_then(|index| u32::try_from(index).ok());
    let (model, words, space_before) = match style {
        Style::Bytes { words } => ("gpt2", words, false),
        Style::SentencePiece { space_before } => ("llama", "default", space_before),
    };
    let caveat = match is_bytes {
        true => words::caveat(words, &file.normalizer),
        false => pieces::caveat(&file.pre_tokenizer, space_before),
    };
    Ok(Vocabulary {
        model,
        words,
        caveat,
        scores: (!is_bytes).then(|| merges::scores(&list.tokens, &merges)),
        unknown: id(unknown),
        never: id(never),
        tokens: list.tokens,
        kinds: list.kinds,
        merges,
        space_before,
    })
}

/// The two kinds of tokeniser that llama.cpp has and we can tell.
enum Style {
    Bytes { words: &'static str },
    SentencePiece { space_before: bool },
}

/// Tokens by id, and their types.
struct List {
    tokens: Vec<String>,
    kinds: Vec<i32>,
}

impl Model {
    fn check(&self) -> Result<(), String> {
        if let Some(kind) = self.kind.as_deref().filter(|kind| *kind != "BPE") {
            return Err(format!(
                "the tokeniser has the type {kind}, but weal writes only BPE to GGUF"
            ));
        }
        for (key, value) in [
            ("continuing_subword_prefix", &self.continuing_subword_prefix),
            ("end_of_word_suffix", &self.end_of_word_suffix),
        ] {
            if let Some(text) = value.as_deref().filter(|text| !text.is_empty()) {
                return Err(format!(
                    "the tokeniser marks parts of words ({key} is {text:?}), which llama.cpp does not"
                ));
            }
        }
        Ok(())
    }

    fn vocab(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.vocab.as_object().into_iter().flatten()
    }

    fn kind_of(&self, token: &str) -> i32 {
        let is_byte = self.byte_fallback
            && token.len() == 6
            && token.starts_with("<0x")
            && token.ends_with('>');
        match () {
            () if self.unk_token.as_deref() == Some(token) => kind::UNKNOWN,
            () if is_byte => kind::BYTE,
            () => kind::NORMAL,
        }
    }
}

impl File {
    fn style(&self) -> Result<Style, String> {
        let pre_tokenizer = words::parts(&self.pre_tokenizer);
        let is_bytes = pre_tokenizer
            .iter()
            .any(|part| words::kind(part) == "ByteLevel");
        if !is_bytes && self.model.byte_fallback {
            let space_before = pieces::space_before(
                &self.normalizer,
                &self.pre_tokenizer,
                self.model.vocab().map(|(token, _)| token.as_str()),
            )?;
            return Ok(Style::SentencePiece { space_before });
        }
        let merges: Vec<String> = self.model.merges.iter().map(Merge::joined).collect();
        let tokens = || self.model.vocab().map(|(token, _)| token.as_str());
        let special = |token: &str| self.added_tokens.iter().any(|added| added.content == token);
        let words = words::name_of(&words::Rule {
            normalizer: &self.normalizer,
            pre_tokenizer: &self.pre_tokenizer,
            whole_words: self.model.ignore_merges,
            whole_words_matter: &|| {
                let words = tokens().filter(|token| !special(token));
                !merges::reach_every_token(words, &merges)
            },
            merges: !merges.is_empty(),
        })?;
        Ok(Style::Bytes { words })
    }

    /// Tokens for `rows` embeddings; those of `special` are never text.
    fn list(&self, rows: usize, special: &[u32]) -> Result<List, String> {
        let (mut tokens, mut kinds) = (vec![None; rows], vec![kind::UNUSED; rows]);
        let mut put = |id: u64, text: &str, kind: i32| {
            let slot = usize::try_from(id).ok().filter(|id| *id < rows);
            let slot = slot.ok_or_else(|| {
                format!("the tokeniser's {text:?} has id {id}, beyond {rows} embeddings")
            })?;
            tokens[slot] = Some(text.to_owned());
            kinds[slot] = kind;
            Ok::<_, String>(())
        };
        for (text, id) in self.model.vocab() {
            let id = id
                .as_u64()
                .ok_or_else(|| format!("the tokeniser's {text:?} has no id"))?;
            put(id, text, self.model.kind_of(text))?;
        }
        for added in &self.added_tokens {
            let content = added.content.as_str();
            let kind = match () {
                () if self.model.unk_token.as_deref() == Some(content) => kind::UNKNOWN,
                () if added.special || special.contains(&added.id) => kind::CONTROL,
                () => kind::USER_DEFINED,
            };
            put(u64::from(added.id), content, kind)?;
        }
        let tokens = named(tokens)?;
        Ok(List { tokens, kinds })
    }
}

/// The tokens that have a meaning.
fn named_special(special: &SpecialTokens) -> Vec<u32> {
    let one = [special.bos, special.pad];
    let one = one.iter().flatten();
    one.chain(&special.eos).copied().collect()
}

/// Gives names to rows without a token. llama.cpp ends the process over two equal names.
fn named(tokens: Vec<Option<String>>) -> Result<Vec<String>, String> {
    let mut taken = HashSet::new();
    for token in tokens.iter().flatten() {
        if !taken.insert(token.clone()) {
            return Err(format!("the tokeniser has {token:?} under two ids"));
        }
    }
    let name = |(id, token): (usize, Option<String>)| {
        token.unwrap_or_else(|| {
            let mut name = format!("[PAD{id}]");
            while !taken.insert(name.clone()) {
                name.push(']');
            }
            name
        })
    };
    Ok(tokens.into_iter().enumerate().map(name).collect())
}

impl Merge {
    fn joined(&self) -> String {
        match self {
            Self::Joined(both) => both.clone(),
            Self::Pair(left, right) => format!("{left} {right}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: Value) -> Tokeniser {
        Tokeniser::from_bytes(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn byte_tokens_as_a_file_are_the_same_tokens() {
        let as_file = Tokeniser::from_bytes(&tokenizer_json(&Tokeniser::Bytes)).unwrap();
        assert_eq!(as_file.vocabulary(), 256);
        let text = "To be, or not to be:\n\tÄ 世界 \u{1f600}  ok\r\n";
        let tokens = as_file.encode(text.as_bytes()).unwrap();
        assert_eq!(tokens, Tokeniser::Bytes.encode(text.as_bytes()).unwrap());
        assert_eq!(as_file.decode(&tokens).unwrap(), text);
    }

    #[test]
    fn each_byte_has_a_letter_in_gguf() {
        let vocabulary = vocabulary(&Tokeniser::Bytes, 258).unwrap();
        assert_eq!((vocabulary.model, vocabulary.words), ("gpt2", "gpt-2"));
        assert_eq!(vocabulary.tokens[usize::from(b'a')], "a");
        assert_eq!(vocabulary.tokens[usize::from(b' ')], "\u{120}");
        assert_eq!(vocabulary.tokens[usize::from(b'\n')], "\u{10a}");
        assert_eq!(vocabulary.tokens[257], "[PAD257]");
        assert_eq!(
            vocabulary.kinds[255..],
            [kind::NORMAL, kind::UNUSED, kind::UNUSED]
        );
    }

    #[test]
    fn merges_and_special_tokens_are_listed() {
        let tokeniser = file(json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": [{ "id": 3, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true }],
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "Digits", "individual_digits": true },
                { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                    "use_regex": true }] },
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
            "model": {
                "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": [["a", "b"]],
            },
        }));
        let vocabulary = vocabulary(&tokeniser, 4).unwrap();
        assert_eq!(vocabulary.words, "smollm");
        assert_eq!(vocabulary.tokens, ["a", "b", "ab", "<end>"]);
        assert_eq!(
            vocabulary.kinds,
            [kind::NORMAL, kind::NORMAL, kind::NORMAL, kind::CONTROL]
        );
        assert_eq!(vocabulary.merges, ["a b"]);
    }

    #[test]
    fn sentencepiece_merges_have_scores_in_their_order() {
        let tokeniser = file(json!({
            "version": "1.0", "truncation": null, "padding": null, "post_processor": null,
            "decoder": null,
            "pre_tokenizer": null, "added_tokens": [],
            "normalizer": {
                "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" },
                    { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }],
            },
            "model": { "type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
                "vocab": { "<unk>": 0, "<0x41>": 1, "a": 2, "b": 3, "ab": 4, "aab": 5 },
                "merges": ["a b", "a ab"] },
        }));
        let vocabulary = vocabulary(&tokeniser, 6).unwrap();
        assert_eq!((vocabulary.model, vocabulary.space_before), ("llama", true));
        assert_eq!(
            vocabulary.kinds[..3],
            [kind::UNKNOWN, kind::BYTE, kind::NORMAL]
        );
        assert_eq!(
            vocabulary.scores.unwrap(),
            [-2.0, -2.0, -2.0, -2.0, 0.0, -1.0]
        );
    }

    #[test]
    fn a_tokeniser_that_gguf_cannot_express_is_refused() {
        let words = file(json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null,
            "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": { "<unk>": 0 }, "unk_token": "<unk>" },
        }));
        let why = vocabulary(&words, 1).unwrap_err();
        assert!(why.contains("WordLevel"), "{why}");
    }

    fn with_added(added: &[Value], model: Value) -> Result<Vocabulary, String> {
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "post_processor": null, "decoder": null, "added_tokens": added,
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": true },
            "model": model,
        });
        vocabulary(&file(json), 6)
    }

    fn added(id: u32, content: &str, special: bool) -> Value {
        json!({ "id": id, "content": content, "special": special, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false })
    }

    #[test]
    fn special_user_defined_and_unknown_tokens_are_told_apart() {
        let model = json!({ "type": "BPE", "unk_token": "<unk>", "merges": [],
            "vocab": { "<unk>": 0, "a": 1, "ÿ": 2 } });
        let tokens = [
            added(0, "<unk>", true),
            added(3, "<s>", true),
            added(4, "<tag>", false),
        ];
        let vocabulary = with_added(&tokens, model).unwrap();
        let expected = [
            kind::UNKNOWN,
            kind::NORMAL,
            kind::NORMAL,
            kind::CONTROL,
            kind::USER_DEFINED,
            kind::UNUSED,
        ];
        assert_eq!(vocabulary.kinds, expected);
        assert_eq!(vocabulary.unknown, Some(0));
        // An unused row is in no text.
        assert_eq!(vocabulary.never, Some(5));
    }

    #[test]
    fn without_an_unused_row_the_byte_that_no_text_has_stands_for_the_end() {
        let vocabulary = vocabulary(&Tokeniser::Bytes, 256).unwrap();
        assert_eq!(vocabulary.never, Some(255));
    }

    #[test]
    fn names_are_unique() {
        let model = json!({ "type": "BPE", "merges": [], "vocab": { "[PAD5]": 0, "a": 1 } });
        let vocabulary = with_added(&[], model.clone()).unwrap();
        assert_eq!(vocabulary.tokens[0], "[PAD5]");
        assert_eq!(vocabulary.tokens[5], "[PAD5]]");
        let twice = [added(2, "<a>", true), added(3, "<a>", true)];
        let why = with_added(&twice, model).unwrap_err();
        assert!(why.contains("two ids"), "{why}");
    }

    #[test]
    fn marks_of_parts_of_words_are_refused() {
        let model = json!({ "type": "BPE", "merges": [], "vocab": { "a": 0 },
            "end_of_word_suffix": "</w>" });
        let why = with_added(&[], model).unwrap_err();
        assert!(why.contains("end_of_word_suffix"), "{why}");
    }
}
