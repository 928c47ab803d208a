//! Just enough of Rust's grammar to tell code, comments and string literals apart.

/// What a byte of a Rust file belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Code, white space included.
    Code,
    /// A comment of any form, with its marker.
    Comment,
    /// A string or character literal, with its quotes.
    Literal,
}

/// What each byte of a Rust file belongs to.
pub(crate) fn kinds(text: &str) -> Vec<Kind> {
    let bytes = text.as_bytes();
    let mut kinds = Vec::with_capacity(bytes.len());
    while kinds.len() < bytes.len() {
        let start = kinds.len();
        let after_word = start > 0 && is_word(bytes[start - 1]);
        let (kind, length) = token(&bytes[start..], after_word);
        kinds.resize((start + length).min(bytes.len()), kind);
    }
    kinds
}

/// The kind and the length of what `rest` begins with.
fn token(rest: &[u8], after_word: bool) -> (Kind, usize) {
    match rest {
        [b'/', b'/', ..] => (Kind::Comment, line_length(rest)),
        [b'/', b'*', ..] => (Kind::Comment, block_length(rest)),
        [b'"', ..] => (Kind::Literal, quoted_length(rest, b'"')),
        [b'\'', ..] => match character_length(rest) {
            Some(length) => (Kind::Literal, length),
            None => (Kind::Code, 1),
        },
        [b'r', ..] | [b'b', b'r', ..] if !after_word => match raw_length(rest) {
            Some(length) => (Kind::Literal, length),
            None => (Kind::Code, 1),
        },
        _ => (Kind::Code, 1),
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_length(rest: &[u8]) -> usize {
    let end = rest.iter().position(|byte| *byte == b'\n');
    end.unwrap_or(rest.len())
}

/// The length of a block comment, which may contain others.
fn block_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a character literal; `None` for a lifetime.
fn character_length(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted_length(rest, b'\''));
    }
    let character = std::str::from_utf8(rest.get(1..rest.len().min(5))?);
    let valid = match character {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&rest[1..=error.valid_up_to()]).ok()?,
    };
    let length = 1 + valid.chars().next()?.len_utf8();
    (rest.get(length) == Some(&b'\'')).then_some(length + 1)
}

/// The length of a raw string such as `r#"…"#`; `None` for a name that begins with `r` or `br`.
fn raw_length(rest: &[u8]) -> Option<usize> {
    let prefix = if rest.first() == Some(&b'b') { 2 } else { 1 };
    let hashes = rest[prefix..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let body = prefix + hashes + 1;
    if rest.get(body - 1) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let found = rest[body..].windows(end.len()).position(|part| part == end);
    Some(found.map_or(rest.len(), |at| body + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a text that are of one kind.
    fn parts(text: &str, wanted: Kind) -> String {
        let bytes = text.bytes().zip(kinds(text));
        let bytes = bytes.filter(|(_, kind)| *kind == wanted);
        String::from_utf8(bytes.map(|(byte, _)| byte).collect()).unwrap()
    }

    #[test]
    fn comments_literals_and_code_are_told_apart() {
        let text = "let a = \"x // \\\" y\"; // why\n/* a /* b */ c */ 'b' '\\'' &'a str r#\"\"q\"# br 'ä'";
        assert_eq!(parts(text, Kind::Comment), "// why/* a /* b */ c */");
        assert_eq!(
            parts(text, Kind::Literal),
            "\"x // \\\" y\"'b''\\''r#\"\"q\"#'ä'"
        );
        assert_eq!(parts(text, Kind::Code), "let a = ; \n   &'a str  br ");
    }

    #[test]
    fn every_byte_has_a_kind_even_in_broken_text() {
        for text in ["\"open", "/* open", "r#\"open", "'", "'\\", "ä'ä"] {
            assert_eq!(kinds(text).len(), text.len(), "{text}");
        }
    }
}
