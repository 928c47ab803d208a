//! JSON lines: each line an object, one field of which is the text.

use std::io::BufRead;

use serde_json::Value;

use super::{BATCH_BYTES, Bad, Batch, Failure, Lines, RECORD_BYTES, Take, Text};

pub(super) fn read(reader: &mut dyn BufRead, take: &mut dyn Take) -> Result<(), Failure> {
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
                // Its place stays, so that those after it keep their numbers.
                batch.bytes.push(b'\n');
                take.bad(Bad {
                    number,
                    reason: format!("longer than {} MiB", RECORD_BYTES >> 20),
                });
            }
        }
        number += 1;
        if batch.bytes.len() >= BATCH_BYTES {
            take.batch(Batch::Lines(std::mem::replace(
                &mut batch,
                Lines {
                    bytes: Vec::new(),
                    first: number,
                },
            )))?;
        }
    }
    if !batch.bytes.is_empty() {
        take.batch(Batch::Lines(batch))?;
    }
    Ok(())
}

enum Line {
    Whole,
    TooLong,
    End,
}

/// Adds a line, its end included, to `bytes`; of one that is too long not more than is accepted.
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

/// The texts of lines, and what is wrong with the others. Blank lines are no records.
pub(in crate::data) fn texts_of(
    lines: Lines,
    field: &str,
) -> impl Iterator<Item = Result<Text, Bad>> {
    let Lines { bytes, first } = lines;
    let mut start = 0;
    let mut number = first;
    std::iter::from_fn(move || {
        while start < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[start..])
                .map_or(bytes.len(), |position| start + position + 1);
            let line = bytes[start..end].trim_ascii();
            let own = number;
            (start, number) = (end, number + 1);
            if !line.is_empty() {
                return Some(text_of(line, field).map_or_else(
                    |reason| {
                        Err(Bad {
                            number: own,
                            reason,
                        })
                    },
                    |text| Ok(Text::whole(text.into_bytes(), own)),
                ));
            }
        }
        None
    })
}

fn text_of(line: &[u8], field: &str) -> Result<String, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(mut object) = value else {
        return Err(
            "no JSON object; write one object a line (jq -c '.[]' turns an array into that)"
                .to_owned(),
        );
    };
    let found = match object.remove(field) {
        Some(value) => Some(value),
        // A field within a field: "meta.text".
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
        Some(_) => Err(format!("its {field:?} is no string")),
        None => Err(format!(
            "it has no {field:?}; another field is named with --text-field"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::super::tests::Kept;
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
    fn a_field_may_lie_within_a_field() {
        let text = b"{\"meta\":{\"text\":\"in\"}}\n{\"meta.text\":\"as named\"}\n";
        let texts: Vec<_> = kept(text, "meta.text")
            .texts
            .into_iter()
            .map(|text| text.bytes)
            .collect();
        assert_eq!(texts, [b"in".to_vec(), b"as named".to_vec()]);
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_line() {
        let bad = kept(
            b"{\"text\":1}\n[]\nno\n{\"text\":null}\n{}\n\xff\n{\"text\":\"good\"}\n",
            "text",
        )
        .bad;
        let numbers: Vec<u64> = bad.iter().map(|bad| bad.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        for (bad, reason) in bad.iter().zip([
            "no string",
            "no JSON object",
            "no JSON",
            "null",
            "--text-field",
            "no JSON",
        ]) {
            assert!(bad.reason.contains(reason), "{bad:?}");
        }
    }

    #[test]
    fn a_line_without_end_costs_no_more_memory_than_a_record_may() {
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
