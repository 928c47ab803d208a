//! Tokenisers in other programs' terms: byte tokens as a `tokenizer.json`, and any tokeniser as
//! GGUF's lists of tokens.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::tokeniser::Tokeniser;

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

/// GPT-2's letter for a byte: the byte itself if it is printable, else the next letter from U+0100
/// on (`bytes_to_unicode` in its `encoder.py`).
fn letter_of(byte: u8) -> char {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if prints(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !prints(*byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
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
    unk_token: Option<String>,
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
    let model = &file.model;
    if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Err(format!(
            "the tokeniser has the type {}, but GGUF supports only BPE",
            model.kind.as_deref().unwrap_or("unknown")
        ));
    }
    let merges: Vec<String> = model.merges.iter().map(Merge::joined).collect();
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
    for (text, id) in model.vocab.as_object().into_iter().flatten() {
        let is_byte = model.byte_fallback
            && text.len() == 6
            && text.starts_with("<0x")
            && text.ends_with('>');
        let kind = match () {
            () if model.unk_token.as_ref() == Some(text) => kind::UNKNOWN,
            () if is_byte => kind::BYTE,
            () => kind::NORMAL,
        };
        put(
            id.as_u64()
                .ok_or_else(|| format!("the tokeniser's {text:?} has no id"))?,
            text,
            kind,
        )?;
    }
    for Added {
        id,
        content,
        special,
    } in &file.added_tokens
    {
        let kind = if *special {
            kind::CONTROL
        } else {
            kind::USER_DEFINED
        };
        put(u64::from(*id), content, kind)?;
    }
    let unused =
        |(id, token): (usize, Option<String>)| token.unwrap_or_else(|| format!("[PAD{id}]"));
    let tokens: Vec<String> = tokens.into_iter().enumerate().map(unused).collect();
    if model.byte_fallback {
        let scores = scores(&tokens, &kinds, &merges);
        let space_before =
            mentions(&file.normalizer, "Prepend") || mentions_prefix_space(&file.pre_tokenizer);
        return Ok(Vocabulary {
            model: "llama",
            words: "default",
            tokens,
            kinds,
            scores: Some(scores),
            merges,
            space_before,
        });
    }
    let words = words(&file.pre_tokenizer)?;
    Ok(Vocabulary {
        model: "gpt2",
        words,
        tokens,
        kinds,
        scores: None,
        merges,
        space_before: false,
    })
}

impl Merge {
    fn joined(&self) -> String {
        match self {
            Self::Joined(both) => both.clone(),
            Self::Pair(left, right) => format!("{left} {right}"),
        }
    }
}

/// A pair merged earlier has a higher score. Tokens that no merge produces come last.
fn scores(tokens: &[String], kinds: &[i32], merges: &[String]) -> Vec<f32> {
    let ranks: std::collections::HashMap<String, usize> = merges
        .iter()
        .enumerate()
        .rev()
        .map(|(rank, pair)| (pair.replacen(' ', "", 1), rank))
        .collect();
    let score = |(token, kind): (&String, &i32)| match (*kind, ranks.get(token)) {
        (kind::NORMAL, Some(rank)) => -(*rank as f32),
        (kind::NORMAL, None) => -(merges.len() as f32),
        _ => 0.0,
    };
    tokens.iter().zip(kinds).map(score).collect()
}

/// llama.cpp's name for the word splitting of a byte-level tokeniser, recognised by its regular
/// expression.
fn words(pre_tokenizer: &Value) -> Result<&'static str, String> {
    /// A part of each known expression, and its name.
    const KNOWN: [(&str, &str); 2] = [(r"\p{N}{1,3}", "llama-bpe"), (r"\p{N}|", "qwen2")];
    let text = pre_tokenizer.to_string().replace(r"\\", r"\");
    if !mentions(pre_tokenizer, "ByteLevel") {
        return Err("the tokeniser does not work on bytes".to_owned());
    }
    if !mentions(pre_tokenizer, "Split") {
        return Ok("gpt-2");
    }
    let known = KNOWN
        .iter()
        .find(|(sign, _)| text.contains(sign))
        .map(|(_, name)| *name);
    known.ok_or_else(|| "llama.cpp has no name for the way this tokeniser splits words".into())
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

fn mentions_prefix_space(pre_tokenizer: &Value) -> bool {
    let scheme = &pre_tokenizer["prepend_scheme"];
    mentions(pre_tokenizer, "Metaspace") && (scheme == "always" || scheme == "first")
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
                { "type": "Split", "pattern": { "Regex": r"\p{N}{1,3}| ?[^\s\p{L}]+|\p{L}+" }, "behavior": "Isolated",
                    "invert": false },
                { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                    "use_regex": false }] },
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
            "model": {
                "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": [["a", "b"]],
            },
        }));
        let vocabulary = vocabulary(&tokeniser, 4).unwrap();
        assert_eq!(vocabulary.words, "llama-bpe");
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
                "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }],
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
            [0.0, 0.0, -2.0, -2.0, 0.0, -1.0]
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
}
