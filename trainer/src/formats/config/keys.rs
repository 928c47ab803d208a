//! The keys of a `config.json`, looked up one by one. An error names the key.

use serde_json::{Map, Value};

/// A JSON object, or a part of one.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a>(pub &'a Map<String, Value>);

impl<'a> Keys<'a> {
    /// A value that is there and not null.
    pub(super) fn given(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, with any value or null.
    pub(super) fn has(self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A number of things; null counts as missing.
    pub(super) fn count(self, key: &str) -> Result<Option<usize>, String> {
        let read = |value: &Value| {
            // Some programs write 4096.0.
            let whole = value.as_u64().or_else(|| {
                value
                    .as_f64()
                    .filter(|n| n.fract() == 0.0)
                    .map(|n| n as u64)
            });
            whole
                .filter(|number| *number <= u64::from(u32::MAX))
                .map(|number| number as usize)
                .ok_or_else(|| wrong(key, value, "a whole number"))
        };
        self.given(key).map(read).transpose()
    }

    /// A number of things that must be there.
    pub(super) fn needed(self, key: &str) -> Result<usize, String> {
        self.count(key)?.ok_or_else(|| {
            format!(
                "{key} is {}",
                if self.has(key) { "null" } else { "missing" }
            )
        })
    }

    /// A number; null counts as missing.
    pub(super) fn number(self, key: &str) -> Result<Option<f64>, String> {
        self.given(key)
            .map(|value| value.as_f64().ok_or_else(|| wrong(key, value, "a number")))
            .transpose()
    }

    /// True or false. Null is refused, as transformers does.
    pub(super) fn flag(self, key: &str) -> Result<Option<bool>, String> {
        self.0
            .get(key)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| wrong(key, value, "true or false"))
            })
            .transpose()
    }

    /// A text. Null is refused, as transformers does.
    pub(super) fn text(self, key: &str) -> Result<Option<&'a str>, String> {
        self.0
            .get(key)
            .map(|value| value.as_str().ok_or_else(|| wrong(key, value, "a text")))
            .transpose()
    }

    /// A list; null counts as missing.
    pub(super) fn list(self, key: &str) -> Result<Option<&'a [Value]>, String> {
        let read = |value: &'a Value| {
            let list = value
                .as_array()
                .ok_or_else(|| wrong(key, value, "a list"))?;
            Ok(&list[..])
        };
        self.given(key).map(read).transpose()
    }

    /// Keys below a key; null and an empty object count as missing.
    pub(super) fn below(self, key: &str) -> Result<Option<Keys<'a>>, String> {
        let read = |value: &'a Value| {
            value
                .as_object()
                .map(Keys)
                .ok_or_else(|| wrong(key, value, "an object"))
        };
        let keys = self.given(key).map(read).transpose()?;
        Ok(keys.filter(|keys| !keys.0.is_empty()))
    }
}

fn wrong(key: &str, value: &Value, expected: &str) -> String {
    format!("{key} is {value}; it must be {expected}")
}

/// `value` in units of 1 / `unit`, if it is a whole number of them to nine digits.
pub(super) fn whole(key: &str, value: f64, unit: f64) -> Result<u32, String> {
    let scaled = (value * unit).round();
    let is_near = (scaled / unit - value).abs() <= value.abs() * 1e-9;
    if is_near && (1.0..=f64::from(u32::MAX)).contains(&scaled) {
        Ok(scaled as u32)
    } else {
        Err(format!(
            "{key} is {value}; it must be a whole number of {:e}",
            1.0 / unit
        ))
    }
}
