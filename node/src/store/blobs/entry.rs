//! An entry of the index of blobs, and its row in the database.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weal_proto::{BlobHash, CHUNK_BYTES, Outline};

/// Bytes of a file that are hashed at once: whole chunks.
const HASHED_AT_ONCE: usize = 16 * CHUNK_BYTES;

/// The round of a blob that is never deleted.
pub(super) const PINNED: u64 = u64::MAX;

/// What a blob is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// It is a whole file.
    Itself,
    /// A tensor of stored weights.
    Weights,
    /// A tensor of weights that are being fetched.
    PartialWeights,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub outline: Arc<Outline>,
    pub of: Of,
    pub file: PathBuf,
    /// Where the blob begins in the file; not 0 for a tensor.
    pub offset: u64,
    pub round: u64,
    /// Not served.
    pub hidden: bool,
}

impl Entry {
    /// A blob that is a whole file.
    pub(super) fn of_file(outline: Outline, file: PathBuf, round: u64, hidden: bool) -> Self {
        Self {
            outline: outline.into(),
            of: Of::Itself,
            file,
            offset: 0,
            round,
            hidden,
        }
    }

    /// A tensor that begins at the value `start` of a file of weights.
    pub(super) fn of_tensor(outline: Arc<Outline>, file: &Path, start: usize, of: Of) -> Self {
        Self {
            outline,
            of,
            file: file.to_owned(),
            offset: start as u64 * 4,
            round: PINNED,
            hidden: false,
        }
    }

    /// Reads bytes of the blob, from this place in it.
    pub(super) fn read(&self, from: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset.saturating_add(from)))?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Path of a blob in a folder of blobs.
pub fn path(folder: &Path, hash: &BlobHash) -> PathBuf {
    let name = hash.to_string();
    let (group, _) = name.split_at(2);
    folder.join(group).join(&name)
}

/// Whether a file holds the blob of this hash. Reads it a few MiB at a time.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn holds(file: &Path, hash: &BlobHash) -> io::Result<bool> {
    let mut file = File::open(file)?;
    let mut outline = Outline {
        bytes: 0,
        chunks: Vec::new(),
    };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        (&mut file)
            .take(HASHED_AT_ONCE as u64)
            .read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(outline.hash() == *hash);
        }
        outline.bytes += bytes.len() as u64;
        outline.chunks.extend(Outline::of(&bytes).chunks);
    }
}

/// A row: round, whether hidden, length, hashes of the chunks.
pub(super) fn write_row(entry: &Entry) -> Vec<u8> {
    [
        entry.round.to_le_bytes().as_slice(),
        [u8::from(entry.hidden)].as_slice(),
        &entry.outline.bytes.to_le_bytes(),
        entry.outline.chunks.as_flattened(),
    ]
    .concat()
}

pub(super) fn read_row(folder: &Path, hash: &[u8], value: &[u8]) -> Option<(BlobHash, Entry)> {
    let hash: [u8; 32] = hash.try_into().ok()?;
    let (round, rest) = value.split_first_chunk::<8>()?;
    let (hidden, rest) = rest.split_first()?;
    let (bytes, rest) = rest.split_first_chunk::<8>()?;
    let (chunks, rest) = rest.as_chunks::<32>();
    let outline = Outline {
        bytes: u64::from_le_bytes(*bytes),
        chunks: chunks.to_vec(),
    };
    let hash = BlobHash::from(hash);
    if !rest.is_empty() || *hidden > 1 || outline.hash() != hash {
        return None;
    }
    let (file, round) = (path(folder, &hash), u64::from_le_bytes(*round));
    Some((hash, Entry::of_file(outline, file, round, *hidden == 1)))
}
