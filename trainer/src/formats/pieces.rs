//! Whether llama.cpp's SentencePiece reads a text as a tokeniser with `▁` for spaces does.

use serde_json::Value;

use super::words::{kind, parts};

/// SentencePiece's sign for a space.
const SPACE: char = '▁';

/// Where llama.cpp still reads text otherwise: `Metaspace` adds a space only if the text has none.
pub(super) fn caveat(pre_tokenizer: &Value, space_before: bool) -> Option<&'static str> {
    let mut all = parts(pre_tokenizer).into_iter();
    let adds_where_none = space_before && all.any(|part| kind(part) == "Metaspace");
    adds_where_none.then_some("llama.cpp adds a second space to a text that begins with one")
}

/// Whether a tokeniser of pieces puts a space before a text; `tokens` are its vocabulary.
///
/// llama.cpp replaces spaces, puts one before a text or not, and merges whole texts. It normalises
/// nothing and cuts no words.
///
/// # Errors
/// If the tokeniser does anything else.
pub(super) fn space_before<'a>(
    normalizer: &Value,
    pre_tokenizer: &Value,
    mut tokens: impl Iterator<Item = &'a str>,
) -> Result<bool, String> {
    let refused = |what: &str| {
        Err(format!(
            "llama.cpp knows no name for how this tokeniser cuts words: it has pieces of \
             SentencePiece, but {what}"
        ))
    };
    let (mut replaces, mut prepends, mut cuts) = (false, false, false);
    for part in parts(normalizer) {
        match kind(part) {
            "Prepend" if is_space(&part["prepend"]) => prepends = true,
            "Replace" if part["pattern"]["String"] == " " && is_space(&part["content"]) => {
                replaces = true;
            }
            other => return refused(&format!("changes text first, with {other}")),
        }
    }
    for part in parts(pre_tokenizer) {
        match kind(part) {
            "Metaspace" if is_space(&part["replacement"]) => {
                replaces = true;
                prepends |= metaspace_prepends(part);
                // Older files, without `split`, cut as well.
                cuts |= part["split"] != Value::Bool(false);
            }
            // Gemma's: no space is left to split at.
            "Split" if replaces && part["pattern"]["String"] == " " => {}
            other => return refused(&format!("cuts with {other}")),
        }
    }
    if !replaces {
        return refused("does not write spaces as ▁");
    }
    // What is cut before each ▁ is merged across it by llama.cpp, if there is a token for it.
    if cuts && let Some(token) = tokens.find(|token| token.chars().skip(1).any(|c| c == SPACE)) {
        return refused(&format!("cuts before each ▁, and has the token {token:?}"));
    }
    Ok(prepends)
}

fn is_space(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.chars().eq([SPACE]))
}

/// `prepend_scheme`, or `add_prefix_space` in files before tokenizers 0.15; by default it prepends.
fn metaspace_prepends(part: &Value) -> bool {
    match part["prepend_scheme"].as_str() {
        Some(scheme) => scheme != "never",
        None => part["add_prefix_space"] != Value::Bool(false),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(normalizer: Value, pre_tokenizer: Value) -> Result<bool, String> {
        space_before(&normalizer, &pre_tokenizer, ["▁a", "b"].into_iter())
    }

    fn replace() -> Value {
        json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" })
    }

    fn sequence(key: &str, parts: &[Value]) -> Value {
        json!({ "type": "Sequence", key: parts })
    }

    #[test]
    fn a_space_before_a_text_is_seen_wherever_it_is_written() {
        fn metaspace(key: &str, value: Value) -> Value {
            json!({ "type": "Metaspace", "replacement": SPACE, key: value })
        }
        let prepend = json!({ "type": "Prepend", "prepend": "▁" });
        let llama_2 = sequence("normalizers", &[prepend, replace()]);
        let gemma = json!({ "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious" });
        let cases = [
            (llama_2.clone(), Value::Null, true),
            (sequence("normalizers", &[llama_2]), Value::Null, true),
            (replace(), gemma, false),
            (replace(), Value::Null, false),
            (
                Value::Null,
                metaspace("add_prefix_space", json!(true)),
                true,
            ),
            (
                Value::Null,
                metaspace("add_prefix_space", json!(false)),
                false,
            ),
            (
                Value::Null,
                metaspace("prepend_scheme", json!("first")),
                true,
            ),
            (
                Value::Null,
                metaspace("prepend_scheme", json!("never")),
                false,
            ),
            (
                Value::Null,
                sequence(
                    "pretokenizers",
                    &[metaspace("prepend_scheme", json!("always"))],
                ),
                true,
            ),
        ];
        for (normalizer, pre_tokenizer, expected) in cases {
            let found = of(normalizer.clone(), pre_tokenizer.clone());
            assert_eq!(found, Ok(expected), "{normalizer} {pre_tokenizer}");
        }
    }

    #[test]
    fn a_second_space_is_told() {
        let metaspace = json!({ "type": "Metaspace", "replacement": "▁" });
        assert!(caveat(&metaspace, true).is_some());
        assert_eq!(caveat(&metaspace, false), None);
        assert_eq!(caveat(&Value::Null, true), None);
    }

    #[test]
    fn what_llama_cpp_does_not_do_is_refused() {
        let metaspace = json!({ "type": "Metaspace", "replacement": "▁" });
        for (normalizer, pre_tokenizer, what) in [
            (json!({ "type": "NFKC" }), metaspace.clone(), "NFKC"),
            (
                json!({ "type": "Precompiled" }),
                metaspace.clone(),
                "Precompiled",
            ),
            (
                Value::Null,
                json!({ "type": "Metaspace", "replacement": "_" }),
                "Metaspace",
            ),
            (Value::Null, json!({ "type": "Whitespace" }), "Whitespace"),
            (Value::Null, Value::Null, "spaces as ▁"),
            (
                replace(),
                sequence(
                    "pretokenizers",
                    &[json!({ "type": "Digits", "individual_digits": true })],
                ),
                "Digits",
            ),
        ] {
            let why = of(normalizer, pre_tokenizer).unwrap_err();
            assert!(why.contains(what) && why.contains("knows no name"), "{why}");
        }
        let why = space_before(&Value::Null, &metaspace, ["▁a▁b"].into_iter()).unwrap_err();
        assert!(why.contains("▁a▁b"), "{why}");
        let whole = json!({ "type": "Metaspace", "replacement": "▁", "split": false });
        assert_eq!(
            space_before(&Value::Null, &whole, ["▁a▁b"].into_iter()),
            Ok(true)
        );
    }
}
