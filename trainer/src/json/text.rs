//! The characters that a JSON string stands for.

use super::scan::find;

/// A string without its escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unescaped {
    pub text: String,
    /// Halves of surrogate pairs, which are no characters; each became U+FFFD.
    pub replaced: u64,
}

/// The text of a string, given as what stands between its quotes.
///
/// # Errors
/// A reason, if an escape is none, or the text is not UTF-8.
pub(crate) fn unescape(raw: &[u8]) -> Result<Unescaped, String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let (mut rest, mut replaced) = (raw, 0);
    while let Some(found) = find(b'\\', b'\\', rest) {
        bytes.extend_from_slice(&rest[..found]);
        rest = &rest[found + 1..];
        let plain = match rest.first() {
            Some(b'u') => {
                let (c, length) = unicode(rest)?;
                replaced += u64::from(c.is_none());
                let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[length..];
                continue;
            }
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(same @ (b'"' | b'\\' | b'/')) => *same,
            other => {
                let other = other.map_or(String::new(), |byte| char::from(*byte).to_string());
                return Err(format!("its text has \\{other}, which JSON does not know"));
            }
        };
        bytes.push(plain);
        rest = &rest[1..];
    }
    bytes.extend_from_slice(rest);
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("its text is not UTF-8 from byte {at} on")
    })?;
    Ok(Unescaped { text, replaced })
}

/// The character of `uXXXX`, or of a pair `uXXXX\uXXXX`, and its length; no character if it is half
/// a pair.
fn unicode(text: &[u8]) -> Result<(Option<char>, usize), String> {
    let unit = |text: &[u8]| {
        let digits = text
            .get(1..5)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let hex = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        hex.and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or("its text has \\u without four hexadecimal digits")
    };
    let first = unit(text)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Ok((char::from_u32(first), 5));
    }
    if text.get(5..7) == Some(b"\\u")
        && let Ok(second @ 0xdc00..0xe000) = unit(&text[6..])
    {
        let value = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return Ok((char::from_u32(value), 11));
    }
    Ok((None, 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_characters() {
        let text = r#"a\n\t\r\b\f\"\\\/ \u00e9 \ud83e\udd80 \u0000"#;
        assert_eq!(
            unescape(text.as_bytes()).unwrap(),
            Unescaped {
                text: "a\n\t\r\u{8}\u{c}\"\\/ é 🦀 \0".into(),
                replaced: 0
            }
        );
    }

    #[test]
    fn half_a_pair_is_replaced_and_counted() {
        for (raw, text, replaced) in [
            (r"a\ud83eb", "a\u{fffd}b", 1),
            (r"\udd80\ud83e", "\u{fffd}\u{fffd}", 2),
            (r"\ud83e\u0041", "\u{fffd}A", 1),
            (r"\ud83e\ud83e\udd80", "\u{fffd}🦀", 1),
        ] {
            let text = text.to_owned();
            assert_eq!(
                unescape(raw.as_bytes()).unwrap(),
                Unescaped { text, replaced }
            );
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for raw in [
            &br"\x41"[..],
            br"\u12",
            br"\u12g4",
            br"\u+123",
            b"\\",
            b"caf\xe9",
        ] {
            assert!(unescape(raw).is_err(), "{raw:?}");
        }
    }
}
