//! The fingerprint of a text, which decides whether it is trained on or held out.

use icu_normalizer::ComposingNormalizerBorrowed;

/// A hash of what a reader of the text sees. White space, characters without width and the Unicode
/// form of a letter (é as one character or as two) do not count, so that a copy with other line
/// ends, other indentation or from another program has the same fingerprint. Case counts.
pub(crate) fn fingerprint(text: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("commonweal held-out v2");
    let mut seen = Vec::with_capacity(text.len());
    for part in text.utf8_chunks() {
        if part.valid().is_ascii() {
            let bytes = part.valid().bytes();
            seen.extend(bytes.filter(|byte| counts(char::from(*byte))));
        } else {
            let composed = ComposingNormalizerBorrowed::new_nfc().normalize(part.valid());
            for c in composed.chars().filter(|c| counts(*c)) {
                seen.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        seen.extend_from_slice(part.invalid());
    }
    let hash = hasher.update(&seen).finalize();
    u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

/// Whether a reader sees the character.
fn counts(c: char) -> bool {
    let unseen = matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
    );
    !unseen && !c.is_whitespace() && !c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_look_alike_have_one_fingerprint() {
        let text = "Call me Ishmael.\n\n  Some years ago – « né à Paris » –\n";
        let one = fingerprint(text.as_bytes());
        for copy in [
            text.trim().to_owned(),
            text.replace('\n', "\r\n"),
            text.replace(' ', "\u{a0}"),
            text.replace("  ", "\t"),
            format!("\u{feff}{text}"),
            text.replace('é', "e\u{301}").replace('à', "a\u{300}"),
            text.replace("years", "ye\u{ad}ars"),
        ] {
            assert_eq!(fingerprint(copy.as_bytes()), one, "{copy:?}");
        }
        for other in [text.replace("me", "us"), text.to_lowercase()] {
            assert_ne!(fingerprint(other.as_bytes()), one, "{other:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_count() {
        assert_ne!(fingerprint(b"a\xffb"), fingerprint(b"a\xfeb"));
        assert_ne!(fingerprint(b"a\xffb"), fingerprint(b"ab"));
        assert_eq!(fingerprint(b"a\xff b\n"), fingerprint(b"a\xffb"));
    }
}
