//! From files to texts, a few at a time.

mod lines;
mod parquet;
mod text;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::place::Kind;
use crate::error::{Error, Result};

pub(super) use lines::texts_of;

/// About so many bytes of text are worked on at once.
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// A longer record is taken for a broken one.
pub(super) const RECORD_BYTES: usize = 64 << 20;

/// What is worked on at once: whole texts, or lines that still have to be understood.
#[derive(Debug)]
pub(super) enum Batch {
    Texts(Vec<Text>),
    Lines(Lines),
}

/// A document, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub bytes: Vec<u8>,
    /// Which of its file's records it is: a row, a line, or the byte it begins at.
    pub number: u64,
    /// It is one of several parts of a document.
    pub part: bool,
    /// The document ends with it.
    pub ends: bool,
}

impl Text {
    fn whole(bytes: Vec<u8>, number: u64) -> Self {
        Self {
            bytes,
            number,
            part: false,
            ends: true,
        }
    }
}

/// Whole lines of a file, each a JSON object.
#[derive(Debug)]
pub(super) struct Lines {
    pub bytes: Vec<u8>,
    /// Number of the first, counted from 1.
    pub first: u64,
}

/// A record that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub number: u64,
    pub reason: String,
}

/// How files are understood.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The field or column that holds a record's text.
    pub field: String,
    /// What stands between the documents of a text file; none where each file is a document.
    pub separator: Vec<u8>,
}

/// Who takes what is read.
pub(super) trait Take {
    /// Takes a batch.
    ///
    /// # Errors
    /// [`Error::Stopped`] where no more is wanted.
    fn batch(&mut self, batch: Batch) -> Result<()>;

    /// Takes note of a record that cannot be used.
    fn bad(&mut self, bad: Bad);
}

/// What a record of a file is called.
pub(super) fn record_name(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Text => format!("byte {number}"),
        Kind::JsonLines => format!("line {number}"),
        Kind::Parquet => format!("row {number}"),
    }
}

/// Reads a file that people call `name`. The bytes taken from disk are counted as they are.
pub(super) fn read(
    name: &str,
    path: &Path,
    kind: Kind,
    reading: &Reading,
    count: &Arc<AtomicU64>,
    take: &mut dyn Take,
) -> Result<()> {
    let file = File::open(path).map_err(|source| Error::DataUnreadable {
        path: path.to_owned(),
        source,
    })?;
    match kind {
        Kind::Text => text::read(&mut plain(name, file, count)?, reading, take)
            .map_err(|error| error.of(name)),
        Kind::JsonLines => {
            lines::read(&mut plain(name, file, count)?, take).map_err(|error| error.of(name))
        }
        Kind::Parquet => parquet::read(name, file, reading, count, take),
    }
}

/// A failure while reading: of the file, or of whoever takes what is read.
enum Failure {
    File(io::Error),
    Taker(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Taker(error)
    }
}

impl Failure {
    fn of(self, name: &str) -> Error {
        match self {
            Self::Taker(error) => error,
            Self::File(error) => damaged(name, &error),
        }
    }
}

fn damaged(name: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Prepare {
        place: name.to_owned(),
        reason: format!("{reason}; it is damaged: get it again, or leave it out"),
    }
}

/// The plain bytes of a file that may be compressed, which its first bytes tell.
fn plain(name: &str, file: File, count: &Arc<AtomicU64>) -> Result<BufReader<Box<dyn Read>>> {
    let mut file = BufReader::with_capacity(
        BATCH_BYTES,
        Counted {
            file,
            count: count.clone(),
        },
    );
    let start = file.fill_buf().map_err(|error| damaged(name, &error))?;
    let reader: Box<dyn Read> = match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::Decoder::with_buffer(file).map_err(|error| damaged(name, &error))?)
        }
        _ => Box::new(file),
    };
    Ok(BufReader::with_capacity(BATCH_BYTES, reader))
}

/// A file whose bytes are counted as they are read.
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

/// Texts that wait until they are worth a batch.
struct Waiting {
    texts: Vec<Text>,
    bytes: usize,
}

impl Waiting {
    fn new() -> Self {
        Self {
            texts: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, text: Text, take: &mut dyn Take) -> Result<()> {
        self.bytes += text.bytes.len();
        self.texts.push(text);
        if self.bytes >= BATCH_BYTES {
            self.flush(take)
        } else {
            Ok(())
        }
    }

    fn flush(&mut self, take: &mut dyn Take) -> Result<()> {
        self.bytes = 0;
        if self.texts.is_empty() {
            return Ok(());
        }
        take.batch(Batch::Texts(std::mem::take(&mut self.texts)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// Takes everything, and keeps it.
    #[derive(Default)]
    pub(in crate::data::read) struct Kept {
        pub texts: Vec<Text>,
        pub bad: Vec<Bad>,
        pub field: String,
    }

    impl Take for Kept {
        fn batch(&mut self, batch: Batch) -> Result<()> {
            match batch {
                Batch::Texts(texts) => self.texts.extend(texts),
                Batch::Lines(lines) => {
                    for text in texts_of(lines, &self.field) {
                        match text {
                            Ok(text) => self.texts.push(text),
                            Err(bad) => self.bad.push(bad),
                        }
                    }
                }
            }
            Ok(())
        }

        fn bad(&mut self, bad: Bad) {
            self.bad.push(bad);
        }
    }

    fn read_bytes(name: &str, bytes: &[u8]) -> Result<Kept> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut kept = Kept {
            field: "text".into(),
            ..Kept::default()
        };
        let reading = Reading {
            field: "text".into(),
            separator: Vec::new(),
        };
        let count = Arc::default();
        read(
            name,
            &path,
            Kind::of(name).unwrap(),
            &reading,
            &count,
            &mut kept,
        )?;
        assert_eq!(count.load(Ordering::Relaxed), bytes.len() as u64);
        Ok(kept)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_files_read_as_plain_ones() {
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
            assert!(why.contains(name) && why.contains("damaged"), "{why}");
        }
    }
}
