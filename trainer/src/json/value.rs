//! Whole values, for files of questions and settings.

use serde_json::{Map, Value};

use super::members::{elements, members};
use super::scan::{JsonFault, Raw, after_space, raw};
use super::text::unescape;

/// Objects within objects; deeper ones are refused.
const DEPTH: usize = 512;

/// Parses a JSON text that Python, JavaScript or a Windows program wrote: with a byte order mark,
/// `NaN` and `Infinity` (which become null), halves of surrogate pairs (which become U+FFFD), or a
/// comma after a last member.
///
/// # Errors
/// A reason, for people.
pub fn parse_json(text: &[u8]) -> Result<Value, String> {
    let text = crate::encoding::without_mark(text);
    let told = |fault: JsonFault| fault.to_string();
    let (found, end) = raw(text, after_space(text, 0)).map_err(told)?;
    let rest = after_space(text, end);
    if rest < text.len() {
        return Err(JsonFault::expected(text, rest, "nothing more").to_string());
    }
    value(found, DEPTH)
}

fn value(raw: Raw<'_>, depth: usize) -> Result<Value, String> {
    let deeper = || depth.checked_sub(1).ok_or("it is nested too deeply");
    Ok(match raw {
        Raw::String(raw) => Value::String(unescape(raw)?.text),
        Raw::Word(b"NaN" | b"Infinity" | b"-Infinity") => Value::Null,
        Raw::Word(word) => serde_json::from_slice(word)
            .map_err(|_| format!("{:?} is no value", String::from_utf8_lossy(word)))?,
        Raw::Array(array) => elements(array)
            .map_err(|fault| fault.to_string())?
            .into_iter()
            .map(|element| value(element, deeper()?))
            .collect::<Result<_, String>>()?,
        Raw::Object(object) => {
            let mut all = Vec::new();
            members(object, |key, value| all.push((key, value)))
                .map_err(|fault| fault.to_string())?;
            let mut map = Map::new();
            for (key, member) in all {
                map.insert(unescape(key)?.text, value(member, deeper()?)?);
            }
            Value::Object(map)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_as_programs_write_them() {
        let text =
            "\u{feff} {\"a\":[1,-2.5e3,NaN,-Infinity,true,null,],\"b\":{\"c\":\"\\ud800\"},}\r\n";
        let expected = json!({"a": [1, -2.5e3, null, null, true, null], "b": {"c": "\u{fffd}"}});
        assert_eq!(parse_json(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = ["[".repeat(1_000), "]".repeat(1_000)].concat();
        for text in ["", "{", "{} {}", "[1 2]", "no", "{'a':1}", deep.as_str()] {
            assert!(parse_json(text.as_bytes()).is_err(), "{text}");
        }
    }
}
