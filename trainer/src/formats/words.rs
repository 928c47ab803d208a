//! llama.cpp's name for the way a byte-level tokeniser cuts text into words before it merges.
//!
//! llama.cpp does not run the rule of a `tokenizer.json`. It has rules of its own, each with a name
//! (`tokenizer.ggml.pre`). A wrong name loads without a word, and the model then reads other tokens
//! than it learnt, so a rule is known whole or refused.

use serde_json::Value;

/// The words of GPT-2, as the `ByteLevel` pre-tokeniser cuts them by itself.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Ways to write the same words, and the one that stands in [`KNOWN`].
///
/// A possessive quantifier before a disjoint class matches what the plain one does, and a greedy
/// `\s*` before a line's end takes further ends itself.
const SAME: [(&str, &str); 6] = [
    (
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    ),
    ("'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
    (r"?+\p{L}+", r"?\p{L}+"),
    (r"++[\r\n]*", r"+[\r\n]*"),
    (r"|\s*[\r\n]|", r"|\s*[\r\n]+|"),
    (r"\p{N}{1}|", r"\p{N}|"),
];

/// A rule that llama.cpp knows.
struct Known {
    /// The steps in order, as [`step`] writes them.
    steps: &'static [&'static str],
    /// Whether text is composed first (NFC).
    ///
    /// llama.cpp leaves text as it is; these names stand for tokenisers that compose, and nearly
    /// all text is composed already.
    composed: bool,
    /// Whether a word that is a token is taken whole, without merging.
    whole_words: bool,
    name: &'static str,
}

const fn known(steps: &'static [&'static str], name: &'static str) -> Known {
    Known {
        steps,
        composed: false,
        whole_words: false,
        name,
    }
}

const fn whole_words(steps: &'static [&'static str], name: &'static str) -> Known {
    Known {
        whole_words: true,
        ..known(steps, name)
    }
}

const fn composed(steps: &'static [&'static str], name: &'static str) -> Known {
    Known {
        composed: true,
        ..known(steps, name)
    }
}

const LLAMA_3: &[&str] = &[
    r"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];
const QWEN_2: &[&str] = &[
    r"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];
const QWEN_3_5: &[&str] = &[
    r"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];
const TEKKEN: &[&str] = &[
    r"split [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];
const GPT_4O: &[&str] = &[
    r"split [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];
const DEEPSEEK_3: &[&str] = &[
    r"split \p{N}{1,3}",
    "split [一-龥\u{3040}-ゟ゠-ヿ]+",
    r##"split [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];
const DEEPSEEK_CODER: &[&str] = &[
    r"split [\r\n]",
    r"split \s?\p{L}+",
    r"split \s?\p{P}+",
    "split [一-龥ࠀ-一가-\u{d7ff}]+",
    "digits",
];
const SEED: &[&str] = &[
    r"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
];
const SUPERBPE: &[&str] = &[r"split \p{N}+", r"split (?=(\d{3})+(?!\d))"];
const WORDS: &[&str] = &["words"];
const DIGITS: &[&str] = &["digits", "words"];

/// The rules of byte-level tokenisers that llama.cpp has a name for.
const KNOWN: [Known; 17] = [
    known(WORDS, "gpt-2"),
    composed(WORDS, "olmo"),
    known(DIGITS, "smollm"),
    composed(DIGITS, "command-r"),
    whole_words(LLAMA_3, "llama-bpe"),
    known(LLAMA_3, "dbrx"),
    known(QWEN_2, "qwen2"),
    composed(QWEN_2, "qwen2"),
    known(QWEN_3_5, "qwen35"),
    composed(QWEN_3_5, "qwen35"),
    whole_words(TEKKEN, "tekken"),
    known(GPT_4O, "gpt-4o"),
    known(DEEPSEEK_3, "deepseek-v3"),
    known(DEEPSEEK_CODER, "deepseek-coder"),
    known(SEED, "seed-coder"),
    known(SUPERBPE, "superbpe"),
    // Without cutting and without merges there are only bytes, whatever the words.
    known(&[], "gpt-2"),
];

/// What decides how text becomes words.
pub(super) struct Rule<'a> {
    pub normalizer: &'a Value,
    pub pre_tokenizer: &'a Value,
    /// Whether a word that is a token is taken whole (`ignore_merges`).
    pub whole_words: bool,
    /// Whether taking words whole changes any text's tokens.
    pub whole_words_matter: &'a dyn Fn() -> bool,
    /// Whether there is any merge.
    pub merges: bool,
}

/// The name of a rule.
///
/// # Errors
/// If llama.cpp has none.
pub(super) fn name_of(rule: &Rule) -> Result<&'static str, String> {
    let refused = |why: &str| {
        Err(format!(
            "llama.cpp knows no name for how this tokeniser cuts words: {why}"
        ))
    };
    let mut is_composed = false;
    for part in parts(rule.normalizer) {
        match kind(part) {
            "NFC" => is_composed = true,
            other => return refused(&format!("it changes text first, with {other}")),
        }
    }
    let steps = match steps(rule.pre_tokenizer) {
        Ok(steps) => steps,
        Err(why) => return refused(&why),
    };
    if steps.is_empty() && rule.merges {
        return refused("it cuts none, so that a token may be longer than a word");
    }
    let candidates = || {
        KNOWN
            .iter()
            .filter(|known| known.composed == is_composed && known.steps == steps)
    };
    if let Some(known) = candidates().find(|known| known.whole_words == rule.whole_words) {
        return Ok(known.name);
    }
    match candidates().next() {
        Some(known) if !(rule.whole_words_matter)() => Ok(known.name),
        Some(known) => refused(&format!(
            "it is like {}, but for ignore_merges = {}, which changes tokens",
            known.name, rule.whole_words
        )),
        None if is_composed => refused("its rule, with NFC, is not one of llama.cpp's"),
        None => refused("its rule is not one of llama.cpp's"),
    }
}

/// Where llama.cpp, under a rule's own name, still reads text otherwise.
pub(super) fn caveat(name: &str, normalizer: &Value) -> Option<&'static str> {
    if parts(normalizer).iter().any(|part| kind(part) == "NFC") {
        return Some("llama.cpp does not compose characters (NFC): composed text is read alike");
    }
    let approximates = matches!(name, "tekken" | "gpt-4o");
    approximates.then_some(
        "llama.cpp tells capitals in ASCII only: words in other capitals may become other tokens",
    )
}

/// The parts of a component in order, however sequences are nested.
pub(super) fn parts(component: &Value) -> Vec<&Value> {
    let inner = ["normalizers", "pretokenizers"]
        .iter()
        .find_map(|key| component.get(key)?.as_array());
    match inner {
        Some(inner) if kind(component) == "Sequence" => inner.iter().flat_map(parts).collect(),
        _ if component.is_null() => Vec::new(),
        _ => vec![component],
    }
}

/// The type of a component.
pub(super) fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or("an unknown step")
}

/// The steps of a pre-tokeniser that ends in bytes, in the form of [`KNOWN`].
fn steps(pre_tokenizer: &Value) -> Result<Vec<String>, String> {
    let mut steps = Vec::new();
    let mut has_bytes = false;
    for part in parts(pre_tokenizer) {
        if has_bytes {
            return Err(format!("it has {} after ByteLevel", kind(part)));
        }
        match kind(part) {
            "ByteLevel" => {
                has_bytes = true;
                if part["add_prefix_space"] != Value::Bool(false) {
                    return Err("it puts a space before a text (add_prefix_space)".to_owned());
                }
                if part["use_regex"] != Value::Bool(false) {
                    steps.push("words".to_owned());
                }
            }
            _ => steps.push(step(part)?),
        }
    }
    if !has_bytes {
        return Err("it does not work on bytes".to_owned());
    }
    Ok(steps)
}

/// A step in one form, whichever of the usual ways it is written in.
fn step(part: &Value) -> Result<String, String> {
    let kind = kind(part);
    match kind {
        "Digits" if part["individual_digits"] == Value::Bool(true) => Ok("digits".to_owned()),
        "Split" => {
            let pattern = part["pattern"]["Regex"]
                .as_str()
                .ok_or("it splits at a fixed text")?;
            // Every known expression matches every character, so nothing lies between matches.
            let keeps_matches = match part["behavior"].as_str() {
                Some("Isolated") => part["invert"] != Value::Bool(true),
                Some("Removed") => part["invert"] == Value::Bool(true),
                _ => false,
            };
            if !keeps_matches {
                return Err(format!("its {kind} does not keep what it matches"));
            }
            let mut pattern = pattern.replace('\r', r"\r").replace('\n', r"\n");
            for (written, same) in SAME {
                pattern = pattern.replace(written, same);
            }
            if pattern == GPT_2 {
                return Ok("words".to_owned());
            }
            Ok(format!("split {pattern}"))
        }
        "Digits" => Err("it keeps digits together".to_owned()),
        _ => Err(format!("it uses {kind}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(
        normalizer: Value,
        steps: &[Value],
        whole_words: bool,
    ) -> Result<&'static str, String> {
        named_if(normalizer, steps, (whole_words, true))
    }

    fn named_if(
        normalizer: Value,
        steps: &[Value],
        (whole_words, whole_words_matter): (bool, bool),
    ) -> Result<&'static str, String> {
        name_of(&Rule {
            normalizer: &normalizer,
            pre_tokenizer: &json!({ "type": "Sequence", "pretokenizers": steps }),
            whole_words,
            whole_words_matter: &|| whole_words_matter,
            merges: true,
        })
    }

    fn bytes(use_regex: bool) -> Value {
        json!({
            "type": "ByteLevel",
            "add_prefix_space": false,
            "trim_offsets": true,
            "use_regex": use_regex,
        })
    }

    fn split(regex: &str) -> Value {
        split_with(regex, "Isolated", false)
    }

    fn split_with(regex: &str, behavior: &str, invert: bool) -> Value {
        json!({
            "type": "Split",
            "pattern": { "Regex": regex },
            "behavior": behavior,
            "invert": invert,
        })
    }

    fn digits(individual: bool) -> Value {
        json!({ "type": "Digits", "individual_digits": individual })
    }

    const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

    #[test]
    fn whole_rules_have_names() {
        let nfc = || json!({ "type": "NFC" });
        let pattern = |known: &[&str]| split(known[0].strip_prefix("split ").unwrap());
        let qwen = || pattern(QWEN_2);
        let cases: [(Value, Vec<Value>, bool, &str); 12] = [
            (Value::Null, vec![bytes(true)], false, "gpt-2"),
            (
                Value::Null,
                vec![split(GPT_2), bytes(false)],
                false,
                "gpt-2",
            ),
            (nfc(), vec![bytes(true)], false, "olmo"),
            (
                Value::Null,
                vec![digits(true), bytes(true)],
                false,
                "smollm",
            ),
            (nfc(), vec![digits(true), bytes(true)], false, "command-r"),
            (
                Value::Null,
                vec![pattern(LLAMA_3), bytes(false)],
                true,
                "llama-bpe",
            ),
            (
                Value::Null,
                vec![pattern(LLAMA_3), bytes(false)],
                false,
                "dbrx",
            ),
            (
                Value::Null,
                vec![split(CL100K), bytes(false)],
                false,
                "dbrx",
            ),
            (nfc(), vec![qwen(), bytes(false)], false, "qwen2"),
            (Value::Null, vec![qwen(), bytes(false)], false, "qwen2"),
            (
                Value::Null,
                vec![pattern(TEKKEN), bytes(false)],
                true,
                "tekken",
            ),
            (
                Value::Null,
                vec![pattern(GPT_4O), bytes(false)],
                false,
                "gpt-4o",
            ),
        ];
        for (normalizer, steps, whole_words, name) in cases {
            assert_eq!(
                named(normalizer, &steps, whole_words),
                Ok(name),
                "{steps:?}"
            );
        }
    }

    #[test]
    fn the_same_rule_is_known_however_it_is_written() {
        let regex = LLAMA_3[0].strip_prefix("split ").unwrap();
        let written = regex.replace(r"\r", "\r").replace(r"\n", "\n");
        let removed = split_with(regex, "Removed", true);
        let nested = json!({ "type": "Sequence", "pretokenizers": [split(regex), bytes(false)] });
        for steps in [
            vec![split(&written), bytes(false)],
            vec![removed, bytes(false)],
            vec![nested],
        ] {
            assert_eq!(
                named(Value::Null, &steps, true),
                Ok("llama-bpe"),
                "{steps:?}"
            );
        }
    }

    #[test]
    fn a_rule_without_a_name_is_refused() {
        let lowercase = json!({ "type": "Lowercase" });
        let part_of_llama_3 = r"\p{Lu}*\p{Ll}+|\p{Lu}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+";
        let part_of_qwen = r"\p{Lu}*\p{Ll}+|\p{Lu}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+";
        let prefix = json!({ "type": "ByteLevel", "add_prefix_space": true, "use_regex": true });
        let cases: [(Value, Vec<Value>, &str); 9] = [
            (lowercase, vec![bytes(true)], "Lowercase"),
            (json!({ "type": "NFKC" }), vec![bytes(true)], "NFKC"),
            (
                Value::Null,
                vec![split(part_of_llama_3), bytes(false)],
                "not one of",
            ),
            (
                Value::Null,
                vec![split(part_of_qwen), bytes(false)],
                "not one of",
            ),
            (
                Value::Null,
                vec![digits(false), bytes(true)],
                "digits together",
            ),
            (Value::Null, vec![prefix], "space before"),
            (Value::Null, vec![bytes(false)], "cuts none"),
            (
                Value::Null,
                vec![bytes(true), digits(true)],
                "after ByteLevel",
            ),
            (
                Value::Null,
                vec![json!({ "type": "Whitespace" }), bytes(true)],
                "Whitespace",
            ),
        ];
        for (normalizer, steps, expected) in cases {
            let why = named(normalizer, &steps, false).unwrap_err();
            assert!(
                why.contains("llama.cpp knows no name for how this tokeniser cuts words"),
                "{why}"
            );
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn what_llama_cpp_reads_otherwise_is_told() {
        let nfc = json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }] });
        assert!(caveat("qwen2", &nfc).unwrap().contains("NFC"));
        assert!(caveat("gpt-4o", &Value::Null).unwrap().contains("capitals"));
        assert_eq!(caveat("llama-bpe", &Value::Null), None);
    }

    #[test]
    fn taking_words_whole_matters_only_where_it_changes_tokens() {
        let qwen = split(QWEN_2[0].strip_prefix("split ").unwrap());
        let steps = [qwen, bytes(false)];
        assert_eq!(named_if(Value::Null, &steps, (true, false)), Ok("qwen2"));
        let why = named_if(Value::Null, &steps, (true, true)).unwrap_err();
        assert!(why.contains("ignore_merges"), "{why}");
    }
}
