//! JSON lines: each line is an object with the text in one field.

use std::io::BufRead;

use serde_json::Value;

use super::failure::Failure;
use super::record::{BATCH_BYTES, BadRecord, Batch, Lines, RECORD_BYTES, RecordSink, Text};

pub(super) fn read(reader: &mut dyn BufRead, sink: &mut dyn RecordSink) -> Result<(), Failure> {
    let mut batch = Lines {
        bytes: Vec::new(),
        first: 1,
    };
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
                sink.bad(BadRecord {
                    number,
                    reason: format!("longer than {} MiB", RECORD_BYTES >> 20),
                });
            }
        }
        number += 1;
        if batch.bytes.len() >= BATCH_BYTES {
            sink.batch(Batch::Lines(std::mem::replace(
                &mut batch,
                Lines {
                    bytes: Vec::new(),
                    first: number,
                },
            )))?;
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

/// Parses lines into texts and bad records. Skips blank lines.
pub(in crate::data) fn texts_of(
    lines: Lines,
    field: &str,
) -> impl Iterator<Item = Result<Text, BadRecord>> {
    let Lines { bytes, first } = lines;
    let mut start = 0;
    let mut number = first;
    std::iter::from_fn(move || {
        while start < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[start..])
                .map_or(bytes.len(), |position| start + position + 1);
            let line = bytes[start..end].trim_ascii();
            let this = number;
            (start, number) = (end, number + 1);
            if !line.is_empty() {
                return Some(text_of(line, field).map_or_else(
                    |reason| {
                        Err(BadRecord {
                            number: this,
                            reason,
                        })
                    },
                    |text| Ok(Text::whole(text.into_bytes(), this)),
                ));
            }
        }
        None
    })
}

fn text_of(line: &[u8], field: &str) -> Result<String, String> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(mut object) = value else {
        return Err(
            "not a JSON object; write one object per line (jq -c '.[]' converts an array)"
                .to_owned(),
        );
    };
    let found = match object.remove(field) {
        Some(value) => Some(value),
        // A nested field, such as "meta.text".
        None => field
            .split('.')
            .try_fold(Value::Object(object), |value, key| match value {
                Value::Object(mut object) => object.remove(key),
                _ => None,
            }),
    };
    match found {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) => Err(format!("its {field:?} is null")),
        Some(_) => Err(format!("its {field:?} is not a string")),
        None => Err(format!(
            "it has no {field:?}; name another field with --text-field"
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
            b"{\"text\":1}\n[]\nno\n{\"text\":null}\n{}\n\xff\n{\"text\":\"good\"}\n",
            "text",
        )
        .bad;
        let numbers: Vec<u64> = bad.iter().map(|bad| bad.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        for (bad, reason) in bad.iter().zip([
            "not a string",
            "not a JSON object",
            "not JSON",
            "null",
            "--text-field",
            "not JSON",
        ]) {
            assert!(bad.reason.contains(reason), "{bad:?}");
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
