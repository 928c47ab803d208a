//! A tokeniser for text that continues another: it puts no space before it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::error::Source;

/// The same tokeniser without what it puts before a text; `None` if it puts nothing there.
pub(super) fn continued(tokeniser: &Tokenizer) -> Result<Option<Box<Tokenizer>>, Source> {
    let normalizer = changed(tokeniser.get_normalizer())?;
    let pre_tokenizer = changed(tokeniser.get_pre_tokenizer())?;
    if normalizer.is_none() && pre_tokenizer.is_none() {
        return Ok(None);
    }
    let mut continued = Box::new(tokeniser.clone());
    if let Some(normalizer) = normalizer {
        continued.with_normalizer(normalizer)?;
    }
    if let Some(pre_tokenizer) = pre_tokenizer {
        continued.with_pre_tokenizer(pre_tokenizer);
    }
    Ok(Some(continued))
}

/// A component that puts nothing before a text, if it differs. The inner `None` is no component.
fn changed<T: Serialize + DeserializeOwned>(
    component: Option<&T>,
) -> Result<Option<Option<T>>, serde_json::Error> {
    let Some(component) = component else {
        return Ok(None);
    };
    let before = serde_json::to_value(component)?;
    let after = without_prefix(before.clone());
    if after == before {
        return Ok(None);
    }
    Ok(Some(match after {
        Value::Null => None,
        after => Some(serde_json::from_value(after)?),
    }))
}

/// A component of a `tokenizer.json` that puts nothing before a text; null if nothing is left.
fn without_prefix(mut part: Value) -> Value {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "Prepend" => return Value::Null,
        "Metaspace" => part["prepend_scheme"] = "never".into(),
        "ByteLevel" if part.get("add_prefix_space").is_some() => {
            part["add_prefix_space"] = false.into();
        }
        _ => {}
    }
    for key in ["normalizers", "pretokenizers"] {
        if let Some(Value::Array(parts)) = part.get_mut(key) {
            let kept = std::mem::take(parts).into_iter().map(without_prefix);
            *parts = kept.filter(|part| !part.is_null()).collect();
        }
    }
    part
}

/// Whether a tokeniser puts a space before every part of a text between special tokens, not only
/// before the first.
pub(super) fn prefixes_each_part(tokeniser: &Tokenizer) -> bool {
    let parts = [
        serde_json::to_value(tokeniser.get_normalizer()),
        serde_json::to_value(tokeniser.get_pre_tokenizer()),
    ];
    parts.iter().flatten().any(prefixes)
}

fn prefixes(part: &Value) -> bool {
    let is = |key: &str, value: &str| part.get(key).is_some_and(|found| found == value);
    let inner = ["normalizers", "pretokenizers"]
        .into_iter()
        .filter_map(|key| part.get(key)?.as_array())
        .flatten();
    is("type", "Prepend")
        || is("type", "Metaspace") && is("prepend_scheme", "always")
        || part
            .get("add_prefix_space")
            .is_some_and(|adds| adds == true)
        || inner.into_iter().any(prefixes)
}
