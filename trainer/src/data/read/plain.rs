//! One plain text file, read whole.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use super::failure::damaged;
use super::file::{is_parquet, open_regular};
use super::signature::{HEAD, not_text, other_encoding};
use super::unpack::{Packing, Unpacker};
use crate::data::kind::FileKind;
use crate::encoding::{Encoding, decoded};
use crate::error::{Error, Result};
use crate::json::parse_json;

/// A packed file holds at most this many bytes: a small one may claim to hold terabytes.
const UNPACKED_BYTES: u64 = 1 << 30;

/// A plain text, in UTF-8 without a byte order mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainText {
    /// The text.
    pub text: Vec<u8>,
    /// What was read otherwise than it seems.
    pub note: Option<String>,
}

/// Reads a plain text file. Its byte order mark is left out; UTF-16 and UTF-32 with a mark become
/// UTF-8.
///
/// # Errors
/// If the file cannot be read or is no text: packed, binary, or in an encoding that no byte order
/// mark names.
pub fn read_text(path: &Path) -> Result<PlainText> {
    text_in(path, first_bytes(path, u64::MAX)?)
}

/// Reads a text file as [`read_text`] does; one that is packed with gzip or zstd is unpacked.
///
/// # Errors
/// As for [`read_text`], and if what is packed is damaged or longer than a gibibyte.
pub(crate) fn read_packed_text(path: &Path) -> Result<PlainText> {
    let bytes = first_bytes(path, u64::MAX)?;
    if Packing::of(&bytes).is_none() {
        return text_in(path, bytes);
    }
    let mut text = Vec::new();
    Unpacker::new(bytes.as_slice())
        .take(UNPACKED_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| damaged(&path.display().to_string(), &error))?;
    if text.len() as u64 > UNPACKED_BYTES {
        let reason = format!("it is more than {} MiB unpacked", UNPACKED_BYTES >> 20);
        return Err(refused(path, reason, "divide it"));
    }
    text_in(path, text)
}

fn text_in(path: &Path, bytes: Vec<u8>) -> Result<PlainText> {
    let encoding = encoding_note(path, &bytes);
    let text = begins_like_text(path, bytes)?;
    if let Some(at) = memchr::memchr(0, &text) {
        let reason = format!("it is not text: byte {at} is NUL");
        return Err(refused(path, reason, "leave it out"));
    }
    match std::str::from_utf8(&text) {
        Ok(_) => {
            let note = encoding.or_else(|| json_note(path, &text));
            Ok(PlainText { text, note })
        }
        Err(error) => Err(refused(
            path,
            format!("it is not UTF-8 from byte {} on", error.valid_up_to()),
            "convert it to UTF-8, for example with iconv -f WINDOWS-1252 -t UTF-8",
        )),
    }
}

/// Looks at the start of a file that [`read_text`] is to read, and returns the same note.
///
/// # Errors
/// As for [`read_text`], as far as the start shows.
pub fn check_text(path: &Path) -> Result<Option<String>> {
    // With room for a byte order mark.
    let bytes = first_bytes(path, HEAD as u64 + 4)?;
    let encoding = encoding_note(path, &bytes);
    let text = begins_like_text(path, bytes)?;
    Ok(encoding.or_else(|| json_note(path, &text)))
}

fn first_bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open_regular(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The bytes as UTF-8 without a byte order mark, if they begin like text.
fn begins_like_text(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let packed = match Packing::of(&bytes) {
        Some(packing) => Some(format!(
            "it is packed with {}, not plain text",
            packing.name()
        )),
        None => is_parquet(&bytes).then(|| "it is Parquet, not plain text".to_owned()),
    };
    if let Some(what) = packed {
        return Err(refused(path, what, "prepare it with weal data prepare"));
    }
    let text = match decoded(&bytes) {
        // Without a mark, this copies nothing.
        Cow::Borrowed(text) if text.len() == bytes.len() => bytes,
        text => text.into_owned(),
    };
    let head = &text[..text.len().min(HEAD)];
    match not_text(head).or_else(|| other_encoding(head)) {
        Some(not) => Err(refused(path, not.reason, not.hint)),
        None => Ok(text),
    }
}

fn refused(
    path: &Path,
    reason: impl Into<Cow<'static, str>>,
    hint: impl Into<Cow<'static, str>>,
) -> Error {
    Error::NotText {
        path: path.to_owned(),
        reason: reason.into().into_owned(),
        hint: hint.into(),
    }
}

fn encoding_note(path: &Path, bytes: &[u8]) -> Option<String> {
    let (encoding, _) = Encoding::of_mark(bytes)?;
    let is_other = encoding != Encoding::Utf8;
    is_other.then(|| format!("{}: read as {}", path.display(), encoding.name()))
}

/// Notes a text that by its name, or by its first line, is records.
fn json_note(path: &Path, text: &[u8]) -> Option<String> {
    let name = path.display();
    let is_named = FileKind::of(&name.to_string()) == Some(FileKind::JsonLines);
    (is_named || begins_with_a_record(text)).then(|| {
        format!(
            "{name}: read as plain text with all its JSON; weal data prepare --format jsonl reads \
             its texts only"
        )
    })
}

/// Whether the first line is a JSON object, alone or in an array.
fn begins_with_a_record(text: &[u8]) -> bool {
    let head = text.get(..HEAD).unwrap_or(text).trim_ascii_start();
    let first = head.strip_prefix(b"[").unwrap_or(head).trim_ascii_start();
    let line = first.split(|byte| *byte == b'\n').next().unwrap_or(first);
    let line = line.trim_ascii_end();
    let line = line.strip_suffix(b",").unwrap_or(line);
    line.starts_with(b"{") && parse_json(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<PlainText> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read_text(&path)
    }

    #[test]
    fn text_is_read_without_its_mark() {
        let wide: Vec<u8> = std::iter::once(0xfeff)
            .chain("wörter".encode_utf16())
            .flat_map(u16::to_be_bytes)
            .collect();
        for (name, bytes, noted) in [
            ("a.txt", "wörter".as_bytes(), false),
            ("a.txt", "\u{feff}wörter".as_bytes(), false),
            ("a.txt", &wide, true),
            ("a.jsonl", "wörter".as_bytes(), true),
        ] {
            let read = read(name, bytes).unwrap();
            assert_eq!(read.text, "wörter".as_bytes());
            assert_eq!(read.note.is_some(), noted, "{:?}", read.note);
        }
    }

    #[test]
    fn records_under_another_name_are_noted_before_and_while_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        for (text, noted) in [
            ("{\"text\": \"one\"}\n{\"text\": \"two\"}\n", true),
            ("\n[{\"text\": \"one\"},\r\n{\"text\": \"two\"}]\n", true),
            ("{braces} are text\n", false),
            ("{braces}\n", false),
            ("{ \"a\": 1 } and more text", false),
            ("[1] is a note\n", false),
        ] {
            std::fs::write(&path, text).unwrap();
            let read = read_text(&path).unwrap().note;
            assert_eq!(read.is_some(), noted, "{text}: {read:?}");
            assert_eq!(check_text(&path).unwrap(), read);
        }
    }

    #[test]
    fn what_is_no_text_is_refused_whatever_its_name() {
        let late = [b"x\n".repeat(HEAD).as_slice(), b"\0"].concat();
        let slip = [b"x\n".repeat(HEAD).as_slice(), b"\xe9"].concat();
        for (bytes, why) in [
            (&b"\x1f\x8b\x08\0"[..], "gzip"),
            (b"\x28\xb5\x2f\xfd\0\0", "zstd"),
            (b"PAR1\0\0\0\0\0\0\0\0PAR1", "Parquet"),
            (b"\x7fELF\x02\x01\x01\0", "program"),
            (b"caf\xe9", "Windows-1252"),
            (&late, "NUL"),
            (&slip, "not UTF-8 from byte 131072 on"),
        ] {
            let told = read("a.txt", bytes).unwrap_err();
            assert!(
                told.to_string().contains(why) && told.hint().is_some(),
                "{told}"
            );
        }
    }
}
