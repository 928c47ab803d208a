//! How the bytes of a text file stand for characters: byte order marks, UTF-16 and UTF-32.

use std::borrow::Cow;
use std::io::{self, Read};

/// Bytes that [`Utf8Reader`] decodes at once.
const PIECE: usize = 64 << 10;
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// An encoding that a byte order mark shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    Utf16 { big: bool },
    Utf32 { big: bool },
}

impl Encoding {
    /// The encoding that a file's first bytes show, and the length of their byte order mark.
    pub(crate) fn of_mark(head: &[u8]) -> Option<(Self, usize)> {
        Some(match head {
            [0xef, 0xbb, 0xbf, ..] => (Self::Utf8, 3),
            [0xff, 0xfe, 0, 0, ..] => (Self::Utf32 { big: false }, 4),
            [0, 0, 0xfe, 0xff, ..] => (Self::Utf32 { big: true }, 4),
            [0xff, 0xfe, ..] => (Self::Utf16 { big: false }, 2),
            [0xfe, 0xff, ..] => (Self::Utf16 { big: true }, 2),
            _ => return None,
        })
    }

    /// Its name, as in `read as UTF-16`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16 { .. } => "UTF-16",
            Self::Utf32 { .. } => "UTF-32",
        }
    }
}

/// A text without the byte order mark of UTF-8 at its start.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(UTF8_MARK).unwrap_or(text)
}

/// A whole file in UTF-8, without its byte order mark. Without a mark it stays as it is.
pub(crate) fn decoded(bytes: &[u8]) -> Cow<'_, [u8]> {
    match Encoding::of_mark(bytes) {
        None => Cow::Borrowed(bytes),
        Some((Encoding::Utf8, mark)) => Cow::Borrowed(&bytes[mark..]),
        Some((encoding, mark)) => {
            let mut decoder = Decoder::new(encoding);
            let mut text = Vec::with_capacity(bytes.len());
            decoder.decode(&bytes[mark..], &mut text);
            decoder.finish(&mut text);
            Cow::Owned(text)
        }
    }
}

/// Turns UTF-16 or UTF-32 into UTF-8, piece by piece. What is no character becomes U+FFFD.
struct Decoder {
    encoding: Encoding,
    /// The first bytes of an incomplete unit.
    rest: Vec<u8>,
    /// The first half of a character of UTF-16.
    high: Option<u32>,
}

impl Decoder {
    fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            rest: Vec::new(),
            high: None,
        }
    }

    fn decode(&mut self, bytes: &[u8], text: &mut Vec<u8>) {
        let (width, big) = match self.encoding {
            Encoding::Utf8 => return text.extend_from_slice(bytes),
            Encoding::Utf16 { big } => (2, big),
            Encoding::Utf32 { big } => (4, big),
        };
        let joined;
        let bytes = if self.rest.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.rest).as_slice(), bytes].concat();
            joined.as_slice()
        };
        let units = bytes.chunks_exact(width);
        self.rest = units.remainder().to_vec();
        for unit in units {
            let value = |value: u32, byte: &u8| value << 8 | u32::from(*byte);
            let value = if big {
                unit.iter().fold(0, value)
            } else {
                unit.iter().rev().fold(0, value)
            };
            match (self.encoding, self.high.take(), value) {
                (Encoding::Utf16 { .. }, Some(high), 0xdc00..0xe000) => {
                    put(0x10000 + ((high - 0xd800) << 10) + (value - 0xdc00), text);
                }
                (Encoding::Utf16 { .. }, high, _) => {
                    if high.is_some() {
                        put(0xd800, text);
                    }
                    if (0xd800..0xdc00).contains(&value) {
                        self.high = Some(value);
                    } else {
                        put(value, text);
                    }
                }
                _ => put(value, text),
            }
        }
    }

    /// Ends the text.
    fn finish(&mut self, text: &mut Vec<u8>) {
        if self.high.take().is_some() || !std::mem::take(&mut self.rest).is_empty() {
            put(0xd800, text);
        }
    }
}

/// Appends a character, or U+FFFD if there is none of that number.
fn put(value: u32, text: &mut Vec<u8>) {
    let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
    text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Reads a file of UTF-16 or UTF-32 as UTF-8.
pub(crate) struct Utf8Reader<R> {
    reader: R,
    decoder: Decoder,
    piece: Vec<u8>,
    text: Vec<u8>,
    /// Bytes of `text` that were passed on.
    passed: usize,
    ended: bool,
}

impl<R: Read> Utf8Reader<R> {
    /// `reader` stands behind the byte order mark.
    pub(crate) fn new(reader: R, encoding: Encoding) -> Self {
        Self {
            reader,
            decoder: Decoder::new(encoding),
            piece: vec![0; PIECE],
            text: Vec::new(),
            passed: 0,
            ended: false,
        }
    }
}

impl<R: Read> Read for Utf8Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.passed == self.text.len() && !self.ended {
            self.text.clear();
            self.passed = 0;
            match self.reader.read(&mut self.piece)? {
                0 => {
                    self.decoder.finish(&mut self.text);
                    self.ended = true;
                }
                length => self.decoder.decode(&self.piece[..length], &mut self.text),
            }
        }
        let rest = &self.text[self.passed..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.passed += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, big: bool) -> Vec<u8> {
        let unit = |unit: u16| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        std::iter::once(0xfeff)
            .chain(text.encode_utf16())
            .flat_map(unit)
            .collect()
    }

    fn utf32(text: &str, big: bool) -> Vec<u8> {
        let unit = |c: char| {
            if big {
                u32::from(c).to_be_bytes()
            } else {
                u32::from(c).to_le_bytes()
            }
        };
        std::iter::once('\u{feff}')
            .chain(text.chars())
            .flat_map(unit)
            .collect()
    }

    /// Gives one byte at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(buffer.len()).min(1);
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn a_byte_order_mark_names_the_encoding_and_is_no_text() {
        let text = "naïve 世界 🦀\r\n";
        let mut files = vec![[UTF8_MARK, text.as_bytes()].concat(), text.into()];
        for big in [false, true] {
            files.push(utf16(text, big));
            files.push(utf32(text, big));
        }
        for file in files {
            assert_eq!(decoded(&file), text.as_bytes());
            let (encoding, mark) = Encoding::of_mark(&file).unwrap_or((Encoding::Utf8, 0));
            let mut read = String::new();
            Utf8Reader::new(Trickle(&file[mark..]), encoding)
                .read_to_string(&mut read)
                .unwrap();
            assert_eq!(read, text);
        }
        assert_eq!(without_mark(b"\xef\xbb\xbf{}"), b"{}");
        assert_eq!(without_mark(b"{}"), b"{}");
    }

    #[test]
    fn half_characters_are_replaced() {
        let mut file = utf16("a", false);
        file.extend([0x3d, 0xd8, 0x62, 0, 0x00, 0xdc, 0x3d, 0xd8]);
        assert_eq!(decoded(&file), "a\u{fffd}b\u{fffd}\u{fffd}".as_bytes());
        file.push(7);
        assert_eq!(decoded(&file), "a\u{fffd}b\u{fffd}\u{fffd}".as_bytes());
        assert_eq!(
            decoded(b"\xff\xfe\0\0\xff\xff\xff\xff"),
            "\u{fffd}".as_bytes()
        );
    }
}
