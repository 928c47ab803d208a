//! Reads one data file, compressed or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::failure::damaged;
use super::record::{BATCH_BYTES, ReadOptions, RecordSink};
use super::{lines, parquet, text};
use crate::data::kind::FileKind;
use crate::error::{Error, Result};

/// Reads a file into `sink`; messages call it `name`. Adds the bytes read from disk to `count`.
pub(in crate::data) fn read(
    name: &str,
    path: &Path,
    kind: FileKind,
    options: &ReadOptions,
    count: &Arc<AtomicU64>,
    sink: &mut dyn RecordSink,
) -> Result<()> {
    let file = File::open(path).map_err(|source| Error::DataUnreadable {
        path: path.to_owned(),
        source,
    })?;
    match kind {
        FileKind::Text => text::read(&mut plain(name, file, count)?, options, sink)
            .map_err(|error| error.of(name)),
        FileKind::JsonLines => {
            lines::read(&mut plain(name, file, count)?, sink).map_err(|error| error.of(name))
        }
        FileKind::Parquet => parquet::read(name, file, options, count, sink),
    }
}

/// A reader of the decompressed bytes. The file's first bytes show its compression.
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
        read(
            name,
            &path,
            FileKind::of(name).unwrap(),
            &options,
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
            assert!(why.contains(name) && why.contains("damaged"), "{why}");
        }
    }
}
