//! Plain text: a file is a document, or several with a separator between them.

use std::io::BufRead;

use super::super::sections::{WHOLE_BYTES, character_start};
use super::{BATCH_BYTES, Failure, Reading, Take, Text, Waiting};
use crate::error::Result;

pub(super) fn read(
    reader: &mut dyn BufRead,
    reading: &Reading,
    take: &mut dyn Take,
) -> Result<(), Failure> {
    let separator =
        (!reading.separator.is_empty()).then(|| memchr::memmem::Finder::new(&reading.separator));
    // So many bytes at the end of what is read may be the beginning of a separator.
    let overlap = reading.separator.len().saturating_sub(1);
    let mut documents = Documents {
        waiting: Waiting::new(),
        offset: 0,
        part: false,
        take,
    };
    // What is read of the running document; up to `searched` it holds no separator.
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
            documents.offset += reading.separator.len() as u64;
            (start, searched) = (end + reading.separator.len(), end + reading.separator.len());
        }
        if at_end {
            if start < rest.len() || documents.part {
                documents.end(&rest[start..])?;
            }
            return Ok(documents.waiting.flush(documents.take)?);
        }
        start += documents.go_on(&rest[start..rest.len().saturating_sub(overlap).max(start)])?;
        rest.drain(..start);
        searched = rest.len().saturating_sub(overlap);
    }
}

/// Gives documents on. One that is not short goes in parts, so that a file need not fit into
/// memory; where they are cut follows from the document alone.
struct Documents<'a> {
    waiting: Waiting,
    /// Where what was not given on yet stands in the file.
    offset: u64,
    /// The running document has given a part.
    part: bool,
    take: &'a mut dyn Take,
}

impl Documents<'_> {
    /// Gives parts of a document that begins, or goes on, with `text`; says how many bytes they
    /// were.
    fn go_on(&mut self, text: &[u8]) -> Result<usize> {
        let mut given = 0;
        while text.len() - given > BATCH_BYTES + WHOLE_BYTES {
            self.part = true;
            let length = part_length(&text[given..]);
            self.give(&text[given..given + length], false)?;
            given += length;
        }
        Ok(given)
    }

    /// Gives a document that ends with `text`, or the last part of it.
    fn end(&mut self, text: &[u8]) -> Result<()> {
        let given = self.go_on(text)?;
        self.give(&text[given..], true)?;
        self.part = false;
        Ok(())
    }

    fn give(&mut self, text: &[u8], ends: bool) -> Result<()> {
        let number = self.offset;
        self.offset += text.len() as u64;
        self.waiting.push(
            Text {
                bytes: text.to_vec(),
                number,
                part: self.part,
                ends,
            },
            self.take,
        )
    }
}

/// Where the first part of a text ends: after the last line end within a batch, else between two
/// characters.
fn part_length(text: &[u8]) -> usize {
    match memchr::memrchr(b'\n', &text[..BATCH_BYTES]) {
        Some(position) => position + 1,
        None => character_start(text, BATCH_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::super::tests::Kept;
    use super::*;

    /// Reads in pieces of `piece` bytes.
    fn texts(text: &[u8], separator: &[u8], piece: usize) -> Vec<Text> {
        let mut kept = Kept::default();
        let mut reader = BufReader::with_capacity(piece, Cursor::new(text));
        let reading = Reading {
            field: String::new(),
            separator: separator.to_vec(),
        };
        assert!(read(&mut reader, &reading, &mut kept).is_ok());
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
    fn a_separator_parts_documents_however_they_are_read() {
        let text = b"one<|end|>two\n<|end|><|end|>three";
        let expected = [(0, "one"), (10, "two\n"), (21, ""), (28, "three")]
            .map(|(at, text)| (at, text.to_owned()));
        for piece in [1, 2, 3, 5, 7, 64] {
            assert_eq!(documents(text, b"<|end|>", piece), expected, "{piece}");
        }
        assert_eq!(documents(b"one\n\n", b"\n\n", 4), [(0, "one".to_owned())]);
    }

    #[test]
    fn a_long_document_goes_in_parts_that_end_with_lines() {
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
    fn the_parts_do_not_depend_on_how_a_file_is_read() {
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
