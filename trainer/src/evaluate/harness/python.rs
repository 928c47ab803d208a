//! Python's way with strings, where it differs from Rust's.

/// `str.isspace` of one character: Unicode's white space and the four ASCII separators.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{1c}'..='\u{1f}')
}

/// `str.strip`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.rstrip`.
pub(in crate::evaluate) fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `str.capitalize`: the first character in title case, the rest in lower case.
pub(super) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else {
        return String::new();
    };
    // The whole is lowered, so that a sigma at the end of a word sees the letters before it.
    let lower = text.to_lowercase();
    let lowered_first: usize = first.to_lowercase().map(char::len_utf8).sum();
    title(first) + lower.get(lowered_first..).unwrap_or_default()
}

/// A character in title case: for nearly all the upper case, whose second letter, if it has one,
/// is small ("ß" becomes "Ss").
fn title(letter: char) -> String {
    match letter {
        'Ǆ' | 'ǅ' | 'ǆ' => return "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => return "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => return "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => return "ǲ".to_owned(),
        // Georgian letters have no title case.
        'ა'..='ჿ' => return letter.to_string(),
        'ŉ' => return "ʼN".to_owned(),
        _ => {}
    }
    let mut upper = letter.to_uppercase();
    let first = upper.next().into_iter();
    first.chain(upper.flat_map(char::to_lowercase)).collect()
}

/// `re.sub(r"\[.*?\]", "", text)`: removes brackets with what they hold, unless it has a line end.
pub(super) fn without_brackets(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, bracket) = rest.split_at(open);
        clean.push_str(before);
        rest = match bracket.find([']', '\n']) {
            Some(end) if bracket.as_bytes().get(end) == Some(&b']') => {
                bracket.get(end + 1..).unwrap_or_default()
            }
            // Nothing closes it on its line; a later one may be closed.
            Some(_) => {
                clean.push('[');
                bracket.get(1..).unwrap_or_default()
            }
            None => {
                clean.push_str(bracket);
                ""
            }
        };
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_behave_as_in_python() {
        // Each checked in Python 3.13.
        for (text, capitalised) in [
            ("", ""),
            ("he EATS", "He eats"),
            ("ÉCOLE", "École"),
            ("ßa", "Ssa"),
            ("ﬁN", "Fin"),
            ("ǆX", "ǅx"),
            ("ΑΣ", "Ας"),
            ("ÄΣ Σ", "Äς σ"),
            ("1St", "1st"),
            (" A", " a"),
        ] {
            assert_eq!(capitalize(text), capitalised, "{text:?}");
        }
        assert_eq!(strip("\u{1c}\u{a0}\u{3000} a \u{85}\n"), "a");
        assert_eq!(rstrip(" a\u{1f}\t"), " a");
        for (text, clean) in [
            ("[a] b [c][d]e", " b e"),
            ("a [b", "a [b"),
            ("a [b\nc] d [e] f", "a [b\nc] d  f"),
            ("[[a]]", "]"),
            ("[a\n[b]", "[a\n"),
            ("a] [", "a] ["),
        ] {
            assert_eq!(without_brackets(text), clean, "{text:?}");
        }
    }
}
