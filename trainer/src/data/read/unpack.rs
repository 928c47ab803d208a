//! Compressed files: gzip and zstd, in as many members or frames as they have.

use std::io::{self, BufRead, Read};

/// The longest window of zstd that a decoder takes unless told otherwise, as a power of two.
const USUAL_WINDOW: u32 = 27;
/// The longest window that the format allows.
const LONGEST_WINDOW: u32 = if usize::BITS == 64 { 31 } else { 30 };

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    /// The compression that a file's first bytes show.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // A frame, or a skippable frame.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The window of the first zstd frame in bytes, if it is longer than decoders usually take.
pub(super) fn long_window(head: &[u8]) -> Option<u64> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, window, ..] = head else {
        return None;
    };
    // A frame with a single segment has no window but its content.
    if descriptor & 0b10_0000 != 0 {
        return None;
    }
    let base = 1_u64 << (10 + (window >> 3));
    let bytes = base + base / 8 * u64::from(window & 7);
    (bytes > 1 << USUAL_WINDOW).then_some(bytes)
}

/// Reads what is packed in a file. Zeros behind the last member or frame are padding.
pub(super) struct Unpacker<R: BufRead> {
    state: State<R>,
}

enum State<R: BufRead> {
    /// Before a member or frame.
    Between(R),
    Gzip(Box<flate2::bufread::GzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
    /// At the end, or after an error.
    Ended,
}

impl<R: BufRead> Unpacker<R> {
    pub(super) fn new(reader: R) -> Self {
        let state = State::Between(reader);
        Self { state }
    }

    /// Begins the next member or frame.
    fn begin(mut reader: R) -> io::Result<State<R>> {
        skip_zeros(&mut reader)?;
        // The magic number may lie across the end of the buffer; its first byte is enough.
        Ok(match reader.fill_buf()? {
            [] => State::Ended,
            [0x1f, ..] => State::Gzip(Box::new(flate2::bufread::GzDecoder::new(reader))),
            [0x28 | 0x50..=0x5f, ..] => {
                let mut decoder = zstd::Decoder::with_buffer(reader)?.single_frame();
                decoder.window_log_max(LONGEST_WINDOW)?;
                State::Zstd(decoder)
            }
            _ => {
                let why = "something else follows what is compressed";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        })
    }
}

impl<R: BufRead> Read for Unpacker<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let length = match &mut self.state {
                State::Between(_) => 0,
                State::Gzip(decoder) => decoder.read(buffer)?,
                State::Zstd(decoder) => decoder.read(buffer)?,
                State::Ended => return Ok(0),
            };
            if length > 0 {
                return Ok(length);
            }
            let reader = match std::mem::replace(&mut self.state, State::Ended) {
                State::Between(reader) => reader,
                State::Gzip(decoder) => decoder.into_inner(),
                State::Zstd(decoder) => decoder.finish(),
                State::Ended => return Ok(0),
            };
            self.state = Self::begin(reader)?;
        }
    }
}

fn skip_zeros(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = reader.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let more = zeros > 0 && zeros == bytes.len();
        reader.consume(zeros);
        if !more {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    /// A frame that decoders skip.
    fn skippable(length: u32) -> Vec<u8> {
        let mut frame = vec![0x5a, 0x2a, 0x4d, 0x18];
        frame.extend(length.to_le_bytes());
        frame.extend(std::iter::repeat_n(7, length as usize));
        frame
    }

    fn unpacked(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        Unpacker::new(BufReader::with_capacity(piece, bytes)).read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn members_frames_and_padding_are_read_to_the_end() {
        let (one, two) = (b"one\n".repeat(9_000), b"two\n".repeat(50_000));
        let zeros = vec![0; 10_000];
        for file in [
            [gzip(&one), gzip(&two)].concat(),
            [gzip(&one), gzip(b""), gzip(&two), zeros.clone()].concat(),
            [zstd(&one), zstd(&two)].concat(),
            [
                skippable(5),
                zstd(&one),
                skippable(9_000),
                zstd(b""),
                zstd(&two),
            ]
            .concat(),
            [zstd(&one), zstd(&two), skippable(0), zeros.clone()].concat(),
        ] {
            for piece in [1, 7, 64 << 10] {
                let text = unpacked(&file, piece).unwrap();
                assert!(text == [one.as_slice(), &two].concat(), "{}", text.len());
            }
        }
    }

    #[test]
    fn a_long_window_is_read_and_told() {
        let text = b"long\n".repeat(1_000);
        for log in [27, 28, 31] {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            encoder.long_distance_matching(true).unwrap();
            encoder.write_all(&text).unwrap();
            let file = encoder.finish().unwrap();
            assert_eq!(unpacked(&file, 4096).unwrap(), text, "{log}");
            assert_eq!(long_window(&file), (log > 27).then_some(1 << log));
        }
        assert_eq!(long_window(&zstd(&text)), None);
    }

    #[test]
    fn a_file_that_is_cut_off_or_goes_on_otherwise_is_told() {
        for whole in [gzip(&b"text\n".repeat(900)), zstd(&b"text\n".repeat(900))] {
            for length in [2, 5, whole.len() / 2, whole.len() - 1] {
                let error = unpacked(&whole[..length], 64).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
            }
            let more = [whole.as_slice(), b"\0\0more"].concat();
            let why = unpacked(&more, 64).unwrap_err().to_string();
            assert!(why.contains("something else follows"), "{why}");
        }
    }
}
