//! GPT-2's letters for bytes (`bytes_to_unicode` in its `encoder.py`).

/// The letter of a byte: the byte itself if it is printable, else the next letter from U+0100 on.
pub(crate) fn letter_of(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !is_printable(*byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a letter.
pub(super) fn byte_of(letter: char) -> Option<u8> {
    if let Ok(byte) = u8::try_from(u32::from(letter)) {
        return is_printable(byte).then_some(byte);
    }
    let number = u32::from(letter).checked_sub(0x100)?;
    let mut others = (0..=u8::MAX).filter(|byte| !is_printable(*byte));
    others.nth(number as usize)
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_letter_and_comes_back() {
        for byte in 0..=u8::MAX {
            assert_eq!(byte_of(letter_of(byte)), Some(byte));
        }
        assert_eq!((letter_of(b' '), letter_of(b'\n')), ('\u{120}', '\u{10a}'));
        assert_eq!((byte_of(' '), byte_of('世')), (None, None));
    }
}
