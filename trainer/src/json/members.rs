//! The members of an object, the elements of an array.

use super::scan::{JsonFault, Raw, after_space, raw};
use super::text::unescape;

/// The value of a field of the object that begins at the start of `text`, and where the object
/// ends. `a.b` also means the field `b` in the object `a`. Of a field that is there several times
/// the last counts, as in Python and JavaScript.
///
/// # Errors
/// If the object is not one.
pub(crate) fn field<'a>(text: &'a [u8], name: &str) -> Result<(Option<Raw<'a>>, usize), JsonFault> {
    if text.first() != Some(&b'{') {
        return Err(JsonFault::expected(text, 0, "an object"));
    }
    let (outer, inner) = name.split_once('.').unwrap_or((name, ""));
    let (mut whole, mut nested) = (None, None);
    let end = members(text, |key, value| {
        if is_key(key, name) {
            whole = Some(value);
        } else if !inner.is_empty() && is_key(key, outer) {
            nested = Some(value);
        }
    })?;
    let found = match (whole, nested) {
        (None, Some(Raw::Object(object))) => field(object, inner)?.0,
        (whole, _) => whole,
    };
    Ok((found, end))
}

/// Where an object ends whose strings have no line ends in them.
///
/// # Errors
/// If it is no such object; [`Fault::Cut`] if there is nothing wrong with it as far as it goes.
pub(crate) fn object_end(text: &[u8]) -> Result<usize, JsonFault> {
    let mut line_end = None;
    let mut check = |raw: &[u8]| line_end = line_end.or(memchr::memchr(b'\n', raw));
    let end = members(text, |key, value| {
        check(key);
        if let Raw::String(text) = value {
            check(text);
        }
    })?;
    match line_end {
        Some(at) => Err(JsonFault::expected(text, at, "a string on one line")),
        None => Ok(end),
    }
}

/// Calls `each` with the members of an object, and returns where it ends. Forgives a comma
/// after the last one.
pub(super) fn members<'a>(
    object: &'a [u8],
    mut each: impl FnMut(&'a [u8], Raw<'a>),
) -> Result<usize, JsonFault> {
    let mut at = after_space(object, 1);
    while object.get(at) != Some(&b'}') {
        let key = match raw(object, at) {
            Ok((Raw::String(key), end)) => {
                at = after_space(object, end);
                key
            }
            Err(fault) if fault.at >= object.len() => return Err(fault),
            _ => return Err(JsonFault::expected(object, at, "a key in double quotes")),
        };
        if object.get(at) != Some(&b':') {
            return Err(JsonFault::expected(object, at, "a colon"));
        }
        let (value, end) = raw(object, after_space(object, at + 1))?;
        each(key, value);
        at = next(object, end, b'}')?;
    }
    Ok(at + 1)
}

/// The elements of an array. Forgives a comma after the last one.
///
/// # Errors
/// If the array is not one.
pub(crate) fn elements(array: &[u8]) -> Result<Vec<Raw<'_>>, JsonFault> {
    let mut found = Vec::new();
    let mut at = after_space(array, 1);
    while array.get(at) != Some(&b']') {
        let (value, end) = raw(array, at)?;
        found.push(value);
        at = next(array, end, b']')?;
    }
    Ok(found)
}

/// The start of what follows a member or an element: another one, or the end.
fn next(text: &[u8], end: usize, closing: u8) -> Result<usize, JsonFault> {
    let at = after_space(text, end);
    match text.get(at) {
        Some(b',') => Ok(after_space(text, at + 1)),
        Some(byte) if *byte == closing => Ok(at),
        _ => Err(JsonFault::expected(text, at, "a comma")),
    }
}

fn is_key(key: &[u8], name: &str) -> bool {
    key == name.as_bytes()
        || key.contains(&b'\\') && unescape(key).is_ok_and(|key| key.text == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'a>(object: &'a str, name: &str) -> Option<Raw<'a>> {
        let (found, end) = field(object.as_bytes(), name).unwrap();
        assert_eq!(end, object.len());
        found
    }

    #[test]
    fn only_the_field_that_is_asked_for_matters() {
        let deep = ["[".repeat(5_000), "]".repeat(5_000)].concat();
        for rest in [
            "NaN",
            "-Infinity",
            "undefined",
            "1e999999",
            "123456789012345678901234567890",
            "\"\\ud800 \\x \u{2028} \t\"",
            deep.as_str(),
            "{\"text\":\"another\"}",
        ] {
            for object in [
                format!("{{\"x\":{rest},\"text\":\"it\"}}"),
                format!("{{ \"text\" : \"it\" , \"x\" : {rest} ,\r\n}}"),
            ] {
                assert_eq!(text(&object, "text"), Some(Raw::String(b"it")), "{object}");
            }
        }
    }

    #[test]
    fn a_field_may_be_nested_escaped_or_there_twice() {
        assert_eq!(text(r#"{"a":{"b":1}}"#, "a.b"), Some(Raw::Word(b"1")));
        assert_eq!(
            text(r#"{"a":{"b":1},"a.b":2}"#, "a.b"),
            Some(Raw::Word(b"2"))
        );
        assert_eq!(
            text(r#"{"a":{"b":{"c":3}}}"#, "a.b.c"),
            Some(Raw::Word(b"3"))
        );
        assert_eq!(text(r#"{"t\u0065xt":4}"#, "text"), Some(Raw::Word(b"4")));
        assert_eq!(
            text(r#"{"text":1,"text":2}"#, "text"),
            Some(Raw::Word(b"2"))
        );
        assert_eq!(text("{}", "text"), None);
        assert_eq!(text(r#"{"a":[1]}"#, "a.b"), None);
    }

    #[test]
    fn what_is_no_object_is_told() {
        for (object, why) in [
            ("{'text':1}", "a key in double quotes at column 2"),
            ("{\"text\" 1}", "a colon at column 9"),
            ("{\"a\":1 \"b\":2}", "a comma at column 8"),
            ("{\"a\":}", "a value at column 6"),
            ("{\"a\":1", "ends in the middle"),
            ("{\"a\"", "ends in the middle"),
            ("{\"a", "ends in the middle"),
        ] {
            let fault = field(object.as_bytes(), "text").unwrap_err().to_string();
            assert!(fault.contains(why), "{object}: {fault}");
        }
    }

    #[test]
    fn an_array_has_elements() {
        let all = elements(b"[ {\"a\":1} , \"x\",NaN,]").unwrap();
        assert_eq!(
            all,
            [
                Raw::Object(b"{\"a\":1}"),
                Raw::String(b"x"),
                Raw::Word(b"NaN")
            ]
        );
        assert!(elements(b"[1 2]").is_err() && elements(b"[1,").is_err());
    }
}
