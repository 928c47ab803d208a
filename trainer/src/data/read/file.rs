//! Reads one data file, compressed or not, in any encoding that its byte order mark names.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::failure::damaged;
use super::record::{BATCH_BYTES, ReadOptions, RecordSink};
use super::signature::{HEAD, NotText, not_text, other_encoding};
use super::unpack::{Packing, Unpacker, long_window};
use super::{lines, parquet, text};
use crate::data::kind::{FileKind, packed_name};
use crate::encoding::{Encoding, Utf8Reader};
use crate::error::{Error, Result};

/// A data file to read.
pub(in crate::data) struct DataFile<'a> {
    /// Its name in messages.
    pub name: &'a str,
    pub path: &'a Path,
    pub kind: FileKind,
}

impl DataFile<'_> {
    /// Reads the file into `sink`. Adds the bytes read from disk to `count`.
    pub(in crate::data) fn read(
        &self,
        options: &ReadOptions,
        count: &Arc<AtomicU64>,
        sink: &mut dyn RecordSink,
    ) -> Result<()> {
        let Opened { content, notes } = self.open(options, BATCH_BYTES, count)?;
        notes.into_iter().for_each(|note| sink.note(note));
        match content {
            Content::Text(mut reader) => text::read(&mut reader, options, sink),
            Content::JsonLines(mut reader) => lines::read(&mut reader, sink),
            Content::Parquet(file) => {
                return parquet::read(self.name, file, options, count, sink);
            }
        }
        .map_err(|error| error.of(self.name))
    }

    /// Looks at the start of the file and refuses what cannot be read.
    ///
    /// # Errors
    /// If the file is no text, or not of its kind.
    pub(in crate::data) fn examine(&self, options: &ReadOptions) -> Result<()> {
        self.open(options, HEAD, &Arc::default()).map(drop)
    }

    /// Opens the file, whatever it is by its first bytes. Reads it in pieces of `capacity` bytes.
    fn open(
        &self,
        options: &ReadOptions,
        capacity: usize,
        count: &Arc<AtomicU64>,
    ) -> Result<Opened> {
        let broken = |error: io::Error| damaged(self.name, &error);
        let unreadable = |source| Error::DataUnreadable {
            path: self.path.to_owned(),
            source,
        };
        let counted = Counted {
            file: open_regular(self.path).map_err(unreadable)?,
            count: count.clone(),
        };
        let mut file = BufReader::with_capacity(capacity, counted);
        let head = file.fill_buf().map_err(broken)?;
        if is_parquet(head) || self.kind == FileKind::Parquet && head.len() < 4 {
            // It is counted by row groups.
            count.fetch_sub(head.len() as u64, Ordering::Relaxed);
            let mut file = file.into_inner().file;
            file.seek(SeekFrom::Start(0)).map_err(broken)?;
            return Ok(Opened::parquet(self, file));
        }
        let (packing, window) = (Packing::of(head), long_window(head));
        if self.kind == FileKind::Parquet {
            return Err(self.not_parquet(head, packing));
        }
        let reader: Box<dyn Read> = match packing {
            Some(_) => Box::new(Unpacker::new(file)),
            None => Box::new(file),
        };
        let (mut head, mut reader) = peek(reader).map_err(broken)?;
        if packing.is_some() && (Packing::of(&head).is_some() || is_parquet(&head)) {
            return Err(self.refused(NotText {
                reason: "it is packed twice, or is Parquet that is packed".into(),
                hint: "unpack it once".into(),
            }));
        }
        let mut notes = self.packing_notes(packing, window);
        if let Some((encoding, mark)) = Encoding::of_mark(&head) {
            reader = Box::new(Utf8Reader::new(
                skip(reader, mark).map_err(broken)?,
                encoding,
            ));
            (head, reader) = peek(reader).map_err(broken)?;
            if encoding != Encoding::Utf8 {
                notes.push(format!("{}: read as {}", self.name, encoding.name()));
            }
        }
        self.check_text(&head, options)?;
        let reader = BufReader::with_capacity(capacity, reader);
        let content = match self.kind {
            FileKind::JsonLines => Content::JsonLines(reader),
            _ => Content::Text(reader),
        };
        Ok(Opened { content, notes })
    }

    /// Refuses what is no text in UTF-8.
    fn check_text(&self, head: &[u8], options: &ReadOptions) -> Result<()> {
        // In a text of several documents, and in records, each counts for itself.
        let whole = self.kind == FileKind::Text && options.separator.is_empty();
        let encoding = || whole.then(|| other_encoding(head)).flatten();
        match not_text(head).or_else(encoding) {
            Some(not) => Err(self.refused(not)),
            None => Ok(()),
        }
    }

    /// Says where the file is packed otherwise than its name says.
    fn packing_notes(&self, packing: Option<Packing>, window: Option<u64>) -> Vec<String> {
        let name = self.name;
        let mut notes = Vec::new();
        match (packing, packed_name(name)) {
            (None, Some(end)) => {
                notes.push(format!("{name}: not packed, though it ends in {end}"));
            }
            (Some(packing), None) => {
                notes.push(format!("{name}: unpacked with {}", packing.name()))
            }
            _ => {}
        }
        if let Some(window) = window {
            let mib = window >> 20;
            notes.push(format!(
                "{name}: packed with a window of {mib} MiB, which takes memory"
            ));
        }
        notes
    }

    fn not_parquet(&self, head: &[u8], packing: Option<Packing>) -> Error {
        let what = match (packing, not_text(head)) {
            _ if head.starts_with(b"PARE") => "it is encrypted".to_owned(),
            (Some(packing), _) => format!("it is packed with {}", packing.name()),
            (None, Some(not)) => not.reason.into_owned(),
            (None, None) => "it does not begin like Parquet".to_owned(),
        };
        self.refused(NotText {
            reason: format!("it is not Parquet: {what}").into(),
            hint: "give its format with --format, or leave it out".into(),
        })
    }

    fn refused(&self, not: NotText) -> Error {
        Error::Prepare {
            place: self.name.to_owned(),
            reason: not.reason.into_owned(),
            hint: Some(not.hint),
        }
    }
}

/// An open file, and what is worth knowing about it.
struct Opened {
    content: Content,
    notes: Vec<String>,
}

impl Opened {
    fn parquet(file: &DataFile<'_>, opened: File) -> Self {
        let told = file.kind != FileKind::Parquet;
        let note = || format!("{}: read as Parquet, which it is", file.name);
        Self {
            content: Content::Parquet(opened),
            notes: told.then(note).into_iter().collect(),
        }
    }
}

enum Content {
    Text(TextReader),
    JsonLines(TextReader),
    Parquet(File),
}

type TextReader = BufReader<Box<dyn Read>>;

/// Opens a file. Pipes and devices, which may never end, are refused.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    // Opening a pipe may wait for ever.
    if std::fs::metadata(path)?.is_file() {
        return File::open(path);
    }
    Err(io::Error::other(
        "it is a folder, pipe, device or socket; write what it gives to a file first",
    ))
}

/// Whether a file begins like Parquet, and like no text.
pub(super) fn is_parquet(head: &[u8]) -> bool {
    head.starts_with(b"PAR1") && (head.len() < 12 || memchr::memchr(0, head).is_some())
}

/// The first bytes of a reader, and a reader of all of its bytes.
fn peek(mut reader: Box<dyn Read>) -> io::Result<(Vec<u8>, Box<dyn Read>)> {
    let mut head = Vec::new();
    reader.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let whole = Cursor::new(head.clone()).chain(reader);
    Ok((head, Box::new(whole)))
}

/// A reader without its first bytes.
fn skip(mut reader: Box<dyn Read>, bytes: usize) -> io::Result<Box<dyn Read>> {
    reader.read_exact(&mut vec![0; bytes])?;
    Ok(reader)
}

/// A file that counts the bytes read from it.
struct Counted {
    file: File,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.count.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::data::read::collect::Kept;

    fn read_bytes(name: &str, bytes: &[u8]) -> Result<Kept> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut kept = Kept {
            field: "text".into(),
            ..Kept::default()
        };
        let options = ReadOptions {
            field: "text".into(),
            separator: Vec::new(),
        };
        let count = Arc::default();
        let file = DataFile {
            name,
            path: &path,
            kind: FileKind::of(name).unwrap(),
        };
        file.examine(&options)?;
        file.read(&options, &count, &mut kept)?;
        assert_eq!(count.load(Ordering::Relaxed), bytes.len() as u64);
        Ok(kept)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_files_read_like_plain_ones() {
        let lines = b"{\"text\":\"one\"}\n{\"text\":\"two\"}\n";
        let twice = [gzip(&lines[..15]), gzip(&lines[15..])].concat();
        let expected = read_bytes("a.jsonl", lines).unwrap().texts;
        assert_eq!(expected.len(), 2);
        for (name, bytes) in [
            ("a.jsonl.gz", gzip(lines)),
            ("a.jsonl.gz", twice),
            ("a.jsonl.zst", zstd::encode_all(&lines[..], 3).unwrap()),
        ] {
            assert_eq!(read_bytes(name, &bytes).unwrap().texts, expected, "{name}");
        }
    }

    #[test]
    fn a_damaged_file_is_named() {
        let mut damaged = gzip(&b"{\"text\":\"one\"}\n".repeat(1000));
        let length = damaged.len();
        damaged.truncate(length - 9);
        let cut = zstd::encode_all(&b"x\n".repeat(1000)[..], 3).unwrap();
        for (name, bytes) in [
            ("a.jsonl.gz", &damaged[..]),
            ("b.txt.zst", &cut[..cut.len() - 3]),
        ] {
            let why = read_bytes(name, bytes).err().unwrap().to_string();
            assert!(why.contains(name) && why.contains("cut off"), "{why}");
        }
    }

    fn why(name: &str, bytes: &[u8]) -> String {
        let error = read_bytes(name, bytes).err().unwrap();
        format!("{error}: {}", error.hint().unwrap())
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let lines = "{\"text\":\"eins\"}\r\n{\"text\":\"zwei\"}\r\n";
        let expected = read_bytes("a.jsonl", lines.as_bytes()).unwrap().texts;
        let marked = [b"\xef\xbb\xbf", lines.as_bytes()].concat();
        let wide: Vec<u8> = std::iter::once(0xfeff)
            .chain(lines.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        for (name, bytes, notes) in [
            ("a.jsonl", marked.clone(), 0),
            ("a.jsonl.gz", gzip(&marked), 0),
            ("a.jsonl", wide.clone(), 1),
            ("a.jsonl.zst", zstd::encode_all(&wide[..], 3).unwrap(), 1),
        ] {
            let kept = read_bytes(name, &bytes).unwrap();
            assert_eq!(kept.texts, expected, "{name}");
            assert_eq!(
                (kept.bad.len(), kept.notes.len()),
                (0, notes),
                "{:?}",
                kept.notes
            );
        }
        let text = read_bytes("a.txt", &[b"\xef\xbb\xbf", "wörter".as_bytes()].concat()).unwrap();
        assert_eq!(text.texts[0].bytes, "wörter".as_bytes());
    }

    #[test]
    fn what_a_file_is_does_not_depend_on_its_name() {
        let lines = b"{\"text\":\"one\"}\n";
        for (name, bytes) in [("a.jsonl", gzip(lines)), ("a.jsonl.gz", lines.to_vec())] {
            let kept = read_bytes(name, &bytes).unwrap();
            assert_eq!(
                (kept.texts.len(), kept.notes.len()),
                (1, 1),
                "{:?}",
                kept.notes
            );
        }
    }

    #[test]
    fn packed_and_binary_files_are_never_taken_for_text() {
        let latin = "naïve café".chars().map(|c| c as u8).collect();
        let zip = b"PK\x03\x04\x14\0\0\0\x08\0".to_vec();
        for (name, bytes, what) in [
            ("a.txt", b"BZh91AY&SY\x12\x34".to_vec(), "bunzip2"),
            ("a.jsonl", b"\xfd7zXZ\0\0\x04".to_vec(), "unxz"),
            ("a.txt.gz", gzip(&gzip(b"text")), "unpack it once"),
            ("a.md", zip.clone(), "zip"),
            ("a.jsonl.gz", gzip(&zip), "zip"),
            ("a.txt", b"a\0b\0c\0d\0".to_vec(), "iconv -f UTF-16LE"),
            ("a.txt", latin, "iconv -f WINDOWS-1252"),
            ("a.txt", b"text\0\x01\x02".to_vec(), "NUL"),
            ("a.parquet", b"just text".to_vec(), "not Parquet"),
            ("a.parquet", gzip(b"PAR1"), "packed with gzip"),
        ] {
            let why = why(name, &bytes);
            assert!(why.contains(name) && why.contains(what), "{why}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_refused() {
        let file = DataFile {
            name: "zero",
            path: Path::new("/dev/zero"),
            kind: FileKind::Text,
        };
        let options = ReadOptions {
            field: String::new(),
            separator: Vec::new(),
        };
        let why = crate::error::with_causes(&file.examine(&options).unwrap_err());
        assert!(why.contains("/dev/zero") && why.contains("device"), "{why}");
    }
}
