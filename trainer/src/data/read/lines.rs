//! JSON lines: each line is an object with the text in one field. A file that is one array, or
//! whose objects span lines, is read as well.

use std::io::BufRead;

use super::failure::Failure;
use super::record::{BATCH_BYTES, BadRecord, Batch, Lines, RECORD_BYTES, RecordSink, Text};
use super::values;
use crate::json::{Raw, field, raw, unescape};

pub(super) fn read(reader: &mut dyn BufRead, sink: &mut dyn RecordSink) -> Result<(), Failure> {
    if values::span_lines(reader.fill_buf()?) {
        return values::read(reader, sink);
    }
    let mut batch = Lines::at(1);
    let mut number = 1;
    loop {
        let start = batch.bytes.len();
        match read_line(reader, &mut batch.bytes)? {
            Line::End => break,
            Line::Whole => {}
            Line::TooLong => {
                batch.bytes.truncate(start);
                // An empty line in its place keeps the numbers of the lines after it.
                batch.bytes.push(b'\n');
                sink.bad(BadRecord::too_long(number));
            }
        }
        number += 1;
        if batch.bytes.len() >= BATCH_BYTES {
            let whole = std::mem::replace(&mut batch, Lines::at(number));
            sink.batch(Batch::Lines(whole))?;
        }
    }
    if !batch.bytes.is_empty() {
        sink.batch(Batch::Lines(batch))?;
    }
    Ok(())
}

enum Line {
    Whole,
    TooLong,
    End,
}

/// Appends a line with its end to `bytes`. Of a line that is too long, reads but drops the rest.
fn read_line(reader: &mut dyn BufRead, bytes: &mut Vec<u8>) -> std::io::Result<Line> {
    let start = bytes.len();
    let mut too_long = false;
    loop {
        let read = reader.fill_buf()?;
        if read.is_empty() {
            return Ok(match (too_long, bytes.len() - start) {
                (true, _) => Line::TooLong,
                (false, 0) => Line::End,
                (false, _) => Line::Whole,
            });
        }
        let end = memchr::memchr(b'\n', read);
        let length = end.map_or(read.len(), |position| position + 1);
        too_long |= bytes.len() - start + length > RECORD_BYTES;
        if !too_long {
            bytes.extend_from_slice(&read[..length]);
        }
        reader.consume(length);
        if end.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Whole });
        }
    }
}

/// The line on which a record begins, and the value of a field if it has it; or why it is none.
pub(in crate::data) type Record<'a> = (u64, Result<Option<Raw<'a>>, String>);

/// A field of each object in lines, mostly one a line. Skips blank lines.
pub(in crate::data) fn fields_of<'a>(
    lines: &'a Lines,
    name: &'a str,
) -> impl Iterator<Item = Record<'a>> {
    let mut start = 0;
    let mut next = lines.first;
    let mut values = lines.values.iter();
    // The objects of one line; or one value of an array.
    let mut line = move || {
        let (end, number) = match values.next() {
            Some((end, number)) => (*end, *number),
            None if start < lines.bytes.len() => {
                let rest = &lines.bytes[start..];
                let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                (start + length, next)
            }
            None => return None,
        };
        let found = &lines.bytes[start..end];
        (start, next) = (end, number + 1);
        Some((number, found.trim_ascii()))
    };
    let mut current: (u64, &[u8]) = (0, &[]);
    std::iter::from_fn(move || {
        while current.1.is_empty() {
            current = line()?;
        }
        let (number, text) = current;
        let (found, rest) = first_field(text, name);
        current.1 = rest;
        Some((number, found))
    })
}

/// The field of the first object of a line, and what is left of the line.
fn first_field<'a>(line: &'a [u8], name: &str) -> (Result<Option<Raw<'a>>, String>, &'a [u8]) {
    match field(line, name) {
        Ok((found, end)) => {
            let rest = line[end..].trim_ascii_start();
            let rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
            (Ok(found), rest)
        }
        Err(fault) if line.first() == Some(&b'{') => (Err(format!("not JSON: {fault}")), &[]),
        Err(_) => match raw(line, 0) {
            Ok((_, end)) if end == line.len() => (Err("not a JSON object".to_owned()), &[]),
            _ => (
                Err("not JSON: expected an object in braces".to_owned()),
                &[],
            ),
        },
    }
}

#[cfg(test)]
/// Parses lines into texts and bad records.
pub(in crate::data) fn texts_of<'a>(
    lines: &'a Lines,
    field: &'a str,
) -> impl Iterator<Item = Result<Text, BadRecord>> + 'a {
    fields_of(lines, field).map(move |(number, found)| {
        found
            .and_then(|found| text_of(found, field, number))
            .map_err(|reason| BadRecord { number, reason })
    })
}

pub(super) fn text_of(found: Option<Raw<'_>>, name: &str, number: u64) -> Result<Text, String> {
    match found {
        Some(Raw::String(raw)) => {
            let text = unescape(raw)?;
            Ok(Text {
                replaced: text.replaced,
                ..Text::whole(text.text.into_bytes(), number)
            })
        }
        Some(Raw::Word(b"null" | b"NaN" | b"None")) => Err(format!("its {name:?} is null")),
        Some(_) => Err(format!("its {name:?} is not a string")),
        None => Err(format!(
            "it has no {name:?}; name another field with --text-field"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::super::collect::Kept;
    use super::*;

    fn kept(text: &[u8], field: &str) -> Kept {
        let mut kept = Kept {
            field: field.to_owned(),
            ..Kept::default()
        };
        assert!(read(&mut BufReader::new(Cursor::new(text)), &mut kept).is_ok());
        kept
    }

    #[test]
    fn each_line_is_a_document_with_its_number() {
        let kept = kept(
            b"{\"text\":\"one\"}\r\n\n{\"id\":2,\"text\":\"t\\u00e9\"}",
            "text",
        );
        assert_eq!(
            kept.texts,
            [Text::whole(b"one".to_vec(), 1), Text::whole("té".into(), 3)]
        );
        assert_eq!(kept.bad, []);
    }

    #[test]
    fn a_field_may_be_nested() {
        let text = b"{\"meta\":{\"text\":\"in\"}}\n{\"meta.text\":\"as named\"}\n";
        let texts: Vec<_> = kept(text, "meta.text")
            .texts
            .into_iter()
            .map(|text| text.bytes)
            .collect();
        assert_eq!(texts, [b"in".to_vec(), b"as named".to_vec()]);
    }

    #[test]
    fn a_bad_record_is_named_with_its_line() {
        let bad = kept(
            b"{\"text\":1}\n[1]\nno\n{\"text\":null}\n{}\n\xff\n{\"text\":\"good\"}\n",
            "text",
        )
        .bad;
        let numbers: Vec<u64> = bad.iter().map(|bad| bad.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        for (bad, reason) in bad.iter().zip([
            "not a string",
            "not a JSON object",
            "not a JSON object",
            "null",
            "--text-field",
            "not JSON",
        ]) {
            assert!(bad.reason.contains(reason), "{bad:?}");
        }
    }

    #[test]
    fn a_record_is_lost_only_for_what_is_wrong_with_its_own_text() {
        let good = [
            r#"{"x":NaN,"text":"a"}"#,
            r#"{"x":-Infinity,"text":"a"}"#,
            r#"{"x":"\ud800\x","text":"a"}"#,
            r#"{"text":"b","x":1e400,"text":"a"}"#,
            "{\"x\":\"\u{2028}\",\"text\":\"a\",}\r",
            "{\"x\":\"\t\",\"text\":\"a\"},",
            r#"{"text":"a"} {"text":"a"},{"text":"a"}"#,
        ];
        let deep = format!(
            "{{\"x\":{}{},\"text\":\"a\"}}",
            "[".repeat(500),
            "]".repeat(500)
        );
        let mut file = [good.as_slice(), &[&deep]].concat().join("\n").into_bytes();
        file.extend(b"\n{\"x\":\"caf\xe9\",\"text\":\"a\"}\n");
        let kept = kept(&file, "text");
        assert_eq!(kept.bad, []);
        assert_eq!(kept.texts.len(), 11);
        assert!(kept.texts.iter().all(|text| text.bytes == b"a"));
    }

    #[test]
    fn half_a_surrogate_pair_in_the_text_is_replaced_and_counted() {
        let kept = kept(b"{\"text\":\"a\\ud800b\"}\n", "text");
        let expected = Text {
            replaced: 1,
            ..Text::whole("a\u{fffd}b".into(), 1)
        };
        assert_eq!(kept.texts, [expected]);
    }

    #[test]
    fn a_line_that_is_cut_off_is_bad_and_the_next_is_read() {
        for cut in ["{\"text\":\"on", "{\"text\":\"one\",", "{"] {
            let kept = kept(format!("{cut}\n{{\"text\":\"two\"}}\n").as_bytes(), "text");
            assert_eq!(kept.texts, [Text::whole(b"two".to_vec(), 2)], "{cut}");
            assert_eq!((kept.bad.len(), kept.bad[0].number), (1, 1));
        }
    }

    #[test]
    fn an_endless_line_needs_no_more_memory_than_the_longest_record() {
        let endless = std::io::repeat(b'x').take(RECORD_BYTES as u64 + 5);
        let text = std::io::Read::chain(&b"{\"text\":\"before\"}\n"[..], endless);
        let text = std::io::Read::chain(text, &b"\n{\"text\":\"after\"}\n"[..]);
        let mut kept = Kept {
            field: "text".to_owned(),
            ..Kept::default()
        };
        assert!(read(&mut BufReader::new(text), &mut kept).is_ok());
        assert_eq!(
            kept.texts
                .iter()
                .map(|text| text.number)
                .collect::<Vec<_>>(),
            [1, 3]
        );
        assert_eq!((kept.bad.len(), kept.bad[0].number), (1, 2));
    }

    use std::io::Read;
}
