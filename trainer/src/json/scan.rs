//! Finds where a JSON value ends.

use std::fmt;

/// Bytes that are searched without `memchr`.
const NEAR: usize = 32;

/// Why text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JsonFault {
    /// Offset of the first byte that cannot be there.
    pub at: usize,
    pub what: Fault,
}

/// What is wrong with JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text ends within a value.
    Cut,
    /// This was expected.
    Expected(&'static str),
}

impl JsonFault {
    pub(super) fn cut(at: usize) -> Self {
        let what = Fault::Cut;
        Self { at, what }
    }

    /// `what` was expected at `at`, or the text ends there.
    pub(super) fn expected(text: &[u8], at: usize, what: &'static str) -> Self {
        if at >= text.len() {
            return Self::cut(at);
        }
        let what = Fault::Expected(what);
        Self { at, what }
    }
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            Fault::Cut => f.write_str("it ends in the middle of a value"),
            Fault::Expected(what) => write!(f, "expected {what} at column {}", self.at + 1),
        }
    }
}

/// A value as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raw<'a> {
    /// What stands between the quotes.
    String(&'a [u8]),
    Object(&'a [u8]),
    Array(&'a [u8]),
    /// A number, `null`, `true`, `NaN` or another word.
    Word(&'a [u8]),
}

/// The value that begins at `start`, and where it ends.
pub(crate) fn raw(text: &[u8], start: usize) -> Result<(Raw<'_>, usize), JsonFault> {
    match text.get(start) {
        Some(b'"') => {
            let end = string_end(text, start)?;
            Ok((Raw::String(&text[start + 1..end - 1]), end))
        }
        Some(open @ (b'{' | b'[')) => {
            let end = container_end(text, start)?;
            let found = &text[start..end];
            Ok((
                if *open == b'{' {
                    Raw::Object(found)
                } else {
                    Raw::Array(found)
                },
                end,
            ))
        }
        _ => {
            let end = word_end(text, start);
            if end == start {
                return Err(JsonFault::expected(text, start, "a value"));
            }
            Ok((Raw::Word(&text[start..end]), end))
        }
    }
}

/// The first byte at or after `at` that is not white space.
pub(super) fn after_space(text: &[u8], at: usize) -> usize {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let rest = text.get(at..).unwrap_or_default();
    at + rest
        .iter()
        .position(|byte| !space(byte))
        .unwrap_or(rest.len())
}

/// Where the string that begins at `start` ends, behind its quote.
pub(super) fn string_end(text: &[u8], start: usize) -> Result<usize, JsonFault> {
    let mut at = start + 1;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let Some(found) = find(b'"', b'\\', rest) else {
            return Err(JsonFault::cut(text.len()));
        };
        at += found + 1;
        if rest[found] == b'"' {
            return Ok(at);
        }
        // Whatever was escaped.
        at += 1;
    }
}

/// The first of two bytes. If a text has many, they are near: calling `memchr` for each would
/// take longer than looking at eight bytes at once.
pub(super) fn find(one: u8, other: u8, text: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let (ones, others) = (LOW * u64::from(one), LOW * u64::from(other));
    // The highest bit of each byte that is zero, and perhaps of some after the first such.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & (LOW << 7);
    let (words, _) = text.as_chunks::<8>();
    for (index, word) in words.iter().take(NEAR / 8).enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ ones) | zeros(word ^ others);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let looked = words.len().min(NEAR / 8) * 8;
    Some(looked + memchr::memchr2(one, other, text.get(looked..)?)?)
}

/// Where the object or array that begins at `start` ends, however deep it is.
fn container_end(text: &[u8], start: usize) -> Result<usize, JsonFault> {
    let (mut depth, mut at) = (0_usize, start);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Ok(at);
        }
    }
    Err(JsonFault::cut(text.len()))
}

/// Where a number or word that begins at `start` ends.
fn word_end(text: &[u8], start: usize) -> usize {
    let part =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_');
    let rest = text.get(start..).unwrap_or_default();
    start
        + rest
            .iter()
            .position(|byte| !part(byte))
            .unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_it_ends() {
        for (text, end) in [
            (r#""a\"b",1"#, 6),
            (r#"{"a":"}"}x"#, 9),
            ("[[],{}]]", 7),
            ("-1.5e+7,", 7),
            ("NaN}", 3),
            ("-Infinity ", 9),
        ] {
            assert_eq!(raw(text.as_bytes(), 0).unwrap().1, end, "{text}");
        }
        let deep = ["[".repeat(1 << 20), "]".repeat(1 << 20)].concat();
        assert_eq!(raw(deep.as_bytes(), 0).unwrap().1, deep.len());
    }

    #[test]
    fn a_value_that_is_cut_off_is_told_from_a_wrong_one() {
        for text in ["", "\"a", "\"a\\", "\"a\\\"", "{\"a\":[1", "["] {
            assert_eq!(
                raw(text.as_bytes(), 0).unwrap_err().what,
                Fault::Cut,
                "{text}"
            );
        }
        let wrong = raw(b"'a'", 0).unwrap_err();
        assert_eq!(wrong.to_string(), "expected a value at column 1");
    }
}
