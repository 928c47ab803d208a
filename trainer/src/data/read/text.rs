//! Plain text: a file is one document, or several divided by a separator.

use std::io::BufRead;

use super::failure::Failure;
use super::record::{BadRecord, ReadOptions, RecordSink, Text, TextBuffer};
use crate::data::cut::Cutter;
use crate::error::Result;

pub(super) fn read(
    reader: &mut dyn BufRead,
    options: &ReadOptions,
    sink: &mut dyn RecordSink,
) -> Result<(), Failure> {
    let separator =
        (!options.separator.is_empty()).then(|| memchr::memmem::Finder::new(&options.separator));
    // This many bytes at the end of what was read may be the start of a separator.
    let overlap = options.separator.len().saturating_sub(1);
    let mut documents = Documents {
        buffer: TextBuffer::new(),
        offset: 0,
        part: false,
        sink,
    };
    // The current document as far as it is read, without a separator up to `searched`.
    let mut rest: Vec<u8> = Vec::new();
    let mut searched = 0;
    loop {
        let read = reader.fill_buf()?;
        let (length, at_end) = (read.len(), read.is_empty());
        rest.extend_from_slice(read);
        reader.consume(length);
        let mut start = 0;
        while let Some(position) = separator
            .as_ref()
            .and_then(|finder| finder.find(&rest[searched..]))
        {
            let end = searched + position;
            documents.end(&rest[start..end])?;
            documents.offset += options.separator.len() as u64;
            (start, searched) = (end + options.separator.len(), end + options.separator.len());
        }
        if at_end {
            if start < rest.len() || documents.part {
                documents.end(&rest[start..])?;
            }
            return Ok(documents.buffer.flush(documents.sink)?);
        }
        start +=
            documents.pass_parts(&rest[start..rest.len().saturating_sub(overlap).max(start)])?;
        rest.drain(..start);
        searched = rest.len().saturating_sub(overlap);
    }
}

/// Passes documents to the sink. Long documents go in parts, so that a file need not fit into
/// memory. Where a document is cut depends on its text alone.
struct Documents<'a> {
    buffer: TextBuffer,
    /// Offset in the file of the first byte not passed on yet.
    offset: u64,
    /// Whether a part of the current document was passed on.
    part: bool,
    sink: &'a mut dyn RecordSink,
}

impl Documents<'_> {
    /// Passes on parts of the current document, which continues with `text`. Returns their length.
    fn pass_parts(&mut self, text: &[u8]) -> Result<usize> {
        let mut passed = 0;
        while text.len() - passed > Cutter::LONG.whole + Cutter::LONGEST {
            self.part = true;
            let length = Cutter::LONG.first(&text[passed..]);
            self.pass(&text[passed..passed + length], false)?;
            passed += length;
        }
        Ok(passed)
    }

    /// Passes on the end of the current document, `text`.
    fn end(&mut self, text: &[u8]) -> Result<()> {
        let passed = self.pass_parts(text)?;
        self.pass(&text[passed..], true)?;
        self.part = false;
        Ok(())
    }

    fn pass(&mut self, text: &[u8], ends: bool) -> Result<()> {
        let number = self.offset;
        self.offset += text.len() as u64;
        if let Some(at) = memchr::memchr(0, text) {
            self.sink.bad(BadRecord {
                number,
                reason: format!("not text: its byte {at} is NUL"),
            });
            return Ok(());
        }
        self.buffer.push(
            Text {
                bytes: text.to_vec(),
                number,
                part: self.part,
                ends,
                replaced: 0,
            },
            self.sink,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::super::collect::Kept;
    use super::*;

    /// Reads in pieces of `piece` bytes.
    fn texts(text: &[u8], separator: &[u8], piece: usize) -> Vec<Text> {
        let mut kept = Kept::default();
        let mut reader = BufReader::with_capacity(piece, Cursor::new(text));
        let options = ReadOptions {
            field: String::new(),
            separator: separator.to_vec(),
        };
        assert!(read(&mut reader, &options, &mut kept).is_ok());
        kept.texts
    }

    fn documents(text: &[u8], separator: &[u8], piece: usize) -> Vec<(u64, String)> {
        let texts = texts(text, separator, piece);
        assert!(texts.iter().all(|text| text.ends && !text.part));
        texts
            .into_iter()
            .map(|text| (text.number, String::from_utf8(text.bytes).unwrap()))
            .collect()
    }

    #[test]
    fn a_file_is_a_document() {
        assert_eq!(
            documents(b"call me\nishmael", b"", 4),
            [(0, "call me\nishmael".to_owned())]
        );
        assert_eq!(documents(b"", b"", 4), []);
    }

    #[test]
    fn a_separator_divides_documents_however_they_are_read() {
        let text = b"one<|end|>two\n<|end|><|end|>three";
        let expected = [(0, "one"), (10, "two\n"), (21, ""), (28, "three")]
            .map(|(at, text)| (at, text.to_owned()));
        for piece in [1, 2, 3, 5, 7, 64] {
            assert_eq!(documents(text, b"<|end|>", piece), expected, "{piece}");
        }
        assert_eq!(documents(b"one\n\n", b"\n\n", 4), [(0, "one".to_owned())]);
    }

    #[test]
    fn a_document_with_a_nul_byte_is_bad() {
        let mut kept = Kept::default();
        let options = ReadOptions {
            field: String::new(),
            separator: b"|".to_vec(),
        };
        assert!(read(&mut &b"one|t\0wo|three"[..], &options, &mut kept).is_ok());
        assert_eq!((kept.texts.len(), kept.bad[0].number), (2, 4));
    }

    #[test]
    fn a_long_document_is_read_in_parts_that_end_with_lines() {
        let text: Vec<u8> = (0..400_000)
            .flat_map(|line| format!("line {line}\n").into_bytes())
            .collect();
        for piece in [4096, 1 << 20] {
            let parts = texts(&text, b"<|end|>", piece);
            assert!(
                parts.len() > 3
                    && parts
                        .iter()
                        .all(|text| text.part && text.bytes.ends_with(b"\n"))
            );
            assert!(
                parts.iter().rev().skip(1).all(|text| !text.ends) && parts[parts.len() - 1].ends
            );
            assert_eq!(
                parts
                    .iter()
                    .map(|text| text.bytes.as_slice())
                    .collect::<Vec<_>>()
                    .concat(),
                text
            );
            assert_eq!(parts[1].number, parts[0].bytes.len() as u64);
        }
    }

    #[test]
    fn parts_do_not_depend_on_how_a_file_is_read() {
        let text = [
            b"a line\n".repeat(500_000),
            b"<|end|>".to_vec(),
            b"x".repeat(3 << 20),
        ]
        .concat();
        assert_eq!(
            texts(&text, b"<|end|>", 1000),
            texts(&text, b"<|end|>", 1 << 20)
        );
    }
}
