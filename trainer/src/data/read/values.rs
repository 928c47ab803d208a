//! JSON whose records are not one a line: an array, or objects that span lines.

use std::io::{self, BufRead};

use super::failure::Failure;
use super::record::{BATCH_BYTES, BadRecord, Batch, Lines, RECORD_BYTES, RecordSink};
use crate::json::{Fault, object_end};

/// Whether the file that begins with `head` is not one record a line.
pub(super) fn span_lines(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    match text.first() {
        Some(b'[') => true,
        // The first object is whole, or whole as far as it is there, and goes beyond its line. One
        // with a line end in a string is rather a line that was cut off.
        Some(b'{') => match object_end(text) {
            Ok(end) => text[..end].contains(&b'\n'),
            Err(fault) => fault.what == Fault::Cut && head.contains(&b'\n'),
        },
        _ => false,
    }
}

/// Reads the objects of a file, however they are laid out.
///
/// # Errors
/// If the file is damaged or ends too soon; a broken record cannot be told from the next one.
pub(super) fn read(reader: &mut dyn BufRead, sink: &mut dyn RecordSink) -> Result<(), Failure> {
    let mut scan = Scan {
        line: 1,
        ..Scan::default()
    };
    let mut batch = Lines::at(1);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        let mut done = 0;
        while done < bytes.len() {
            let inside = scan.inside;
            let step = scan.step(&bytes[done..])?;
            let kept = &bytes[done..done + step.length];
            done += step.length;
            let length = batch.bytes.len() - batch.values.last().map_or(0, |(end, _)| *end);
            scan.too_long |= inside && length + kept.len() > RECORD_BYTES;
            if inside && !scan.too_long {
                batch.bytes.extend_from_slice(kept);
            }
            if step.ends {
                if scan.too_long {
                    batch.bytes.truncate(batch.bytes.len() - length);
                    sink.bad(BadRecord::too_long(scan.start));
                } else {
                    batch.values.push((batch.bytes.len(), scan.start));
                }
                (scan.inside, scan.too_long) = (false, false);
            }
        }
        let length = bytes.len();
        reader.consume(length);
        if !scan.inside && batch.bytes.len() >= BATCH_BYTES {
            sink.batch(Batch::Lines(std::mem::replace(&mut batch, Lines::at(1))))?;
        }
    }
    if scan.inside || scan.array {
        let why = format!("it ends in the middle of the JSON at line {}", scan.line);
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why).into());
    }
    if !batch.bytes.is_empty() {
        sink.batch(Batch::Lines(batch))?;
    }
    Ok(())
}

/// Where in the JSON the reader is.
#[derive(Default)]
struct Scan {
    /// The current line, and that on which the current value began.
    line: u64,
    start: u64,
    /// Within the array that is the file.
    array: bool,
    /// Within a value.
    inside: bool,
    /// Objects and arrays around it, from the value on.
    depth: usize,
    string: bool,
    /// Behind a backslash.
    escaped: bool,
    /// The value is too long to be kept.
    too_long: bool,
}

/// Some bytes that were looked at.
struct Step {
    length: usize,
    /// Whether the value ends with them.
    ends: bool,
}

impl Scan {
    /// Looks at the bytes up to the start or the end of a value.
    fn step(&mut self, bytes: &[u8]) -> Result<Step, Failure> {
        if self.inside {
            return Ok(self.value(bytes));
        }
        for (length, byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' => self.line += 1,
                b'[' if !self.array => self.array = true,
                b']' if self.array => self.array = false,
                b' ' | b'\t' | b'\r' | b',' => {}
                _ if self.array || *byte == b'{' => {
                    (self.inside, self.start) = (true, self.line);
                    (self.depth, self.string) = (0, false);
                    let ends = false;
                    return Ok(Step { length, ends });
                }
                _ => {
                    let why = format!("it is not JSON from line {} on", self.line);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why).into());
                }
            }
        }
        Ok(Step {
            length: bytes.len(),
            ends: false,
        })
    }

    /// Looks at the bytes of a value.
    fn value(&mut self, bytes: &[u8]) -> Step {
        for (length, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' {
                self.line += 1;
            }
            if self.string {
                match byte {
                    _ if std::mem::take(&mut self.escaped) => {}
                    b'\\' => self.escaped = true,
                    b'"' => self.string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.string = true,
                b'{' | b'[' => self.depth += 1,
                // The end of a number or word, and of the array.
                b',' | b']' | b'}' if self.depth == 0 => {
                    let ends = true;
                    return Step { length, ends };
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let (length, ends) = (length + 1, true);
                        return Step { length, ends };
                    }
                }
                _ => {}
            }
        }
        Step {
            length: bytes.len(),
            ends: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::super::collect::Kept;
    use super::super::lines;
    use super::*;

    /// Reads in pieces of `piece` bytes.
    fn kept(text: &str, piece: usize) -> Result<Kept, Failure> {
        let mut kept = Kept {
            field: "text".to_owned(),
            ..Kept::default()
        };
        let mut reader = BufReader::with_capacity(piece, Cursor::new(text));
        lines::read(&mut reader, &mut kept)?;
        Ok(kept)
    }

    fn found(text: &str) -> Vec<(u64, String)> {
        let kept = kept(text, 1 << 20).ok().unwrap();
        assert_eq!(kept.bad, [], "{text}");
        let texts = kept.texts.into_iter();
        texts
            .map(|text| (text.number, String::from_utf8(text.bytes).unwrap()))
            .collect()
    }

    #[test]
    fn an_array_is_read_however_it_is_laid_out() {
        let expected = |lines: [u64; 3]| {
            lines
                .into_iter()
                .zip(["a]}", "b", "c"])
                .map(|(line, text)| (line, text.to_owned()))
                .collect::<Vec<_>>()
        };
        let records = [
            r#"{"text":"a]}"}"#,
            r#"{"text": "b", "x": [1, {}]}"#,
            r#"{"text":"c"}"#,
        ];
        let [a, b, c] = records;
        assert_eq!(found(&format!("[{a}, {b}, {c}]")), expected([1, 1, 1]));
        assert_eq!(
            found(&format!("[\n{a},\n{b},\n{c}\n]\n")),
            expected([2, 3, 4])
        );
        assert_eq!(
            found(&format!("[\r\n  {a}\r\n, {b}\r\n, {c},]")),
            expected([2, 3, 4])
        );
        assert_eq!(
            found(&format!("[{a}]\n[{b}]\n[{c}]\n")),
            expected([1, 2, 3])
        );
        let pretty = "{\n  \"text\": \"a]}\"\n}\n{\n  \"text\": \"b\"\n},\n\n{\n\"text\":\"c\"}";
        assert_eq!(found(pretty), expected([1, 4, 8]));
        assert_eq!(
            found(&format!("[{}]", pretty.replace("}\n{", "},{"))),
            expected([1, 3, 7])
        );
        assert_eq!(found("[]\n"), []);
    }

    #[test]
    fn how_it_is_read_does_not_matter() {
        let text = "[ {\"text\":\"a \\\"]\\\\\"},\n 7, \"x\", {\"text\":\"b\"}, [1,[2]] ,null]";
        for piece in [32, 33, 47, 1 << 20] {
            let kept = kept(text, piece).ok().unwrap();
            assert_eq!(kept.texts.len(), 2);
            assert_eq!(kept.bad.len(), 4, "{:?}", kept.bad);
            assert!(kept.bad.iter().all(|bad| bad.reason == "not a JSON object"));
        }
    }

    #[test]
    fn a_part_of_an_array_is_never_taken_for_the_whole() {
        for text in [
            "[{\"text\":\"a\"},",
            "[{\"text\":\"a\"},\n{\"text\":\"b",
            "[{\"text\":\"a\"}\n",
            "[\n{\"text\":\"a\",\n{\"text\":\"b\"}\n]",
            "[{\"text\":\"a\"}] no",
        ] {
            assert!(kept(text, 1 << 20).is_err(), "{text}");
        }
    }
}
