//! The pieces of a blob that are here: in memory for a short blob, else in a file, in which a later
//! fetch finds them again.
//!
//! The file has the length of the blob and no list of pieces: whoever opens it verifies each piece
//! against the outline. So no crash can make it lie.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use libp2p::bytes::Bytes;
use weal_proto::{BlobHash, CHUNK_BYTES, Outline};

use super::bits::Bits;

/// The longest blob that is kept in memory if there is a folder for parts.
const IN_MEMORY: u64 = 16 << 20;
/// Files of fetches that nobody continued for this time are deleted.
const KEPT: Duration = Duration::from_secs(3 * 24 * 3600);
const EXTENSION: &str = "part";

/// The verified pieces of one blob.
#[derive(Debug)]
pub(crate) struct Parts {
    outline: Arc<Outline>,
    place: Mutex<Place>,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<Option<Bytes>>),
    File {
        path: PathBuf,
        file: File,
        have: Bits,
    },
}

impl Parts {
    /// Makes room for a blob, or finds what an earlier fetch left. Reads the file and may take a
    /// while.
    pub(crate) fn open(folder: Option<&Path>, outline: Arc<Outline>) -> io::Result<Self> {
        let place = match folder {
            Some(folder) if outline.bytes > IN_MEMORY => {
                fs::create_dir_all(folder)?;
                let path = path(folder, &outline.hash());
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)?;
                let is_new = file.metadata()?.len() != outline.bytes;
                file.set_len(outline.bytes)?;
                let mut have = Bits::none(pieces(&outline));
                if !is_new {
                    find(&file, &outline, &mut have)?;
                }
                Place::File { path, file, have }
            }
            _ => Place::Memory(vec![None; outline.chunks.len()]),
        };
        Ok(Self {
            outline,
            place: Mutex::new(place),
        })
    }

    /// Deletes the files of fetches that nobody continued.
    pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let changed = entry.metadata()?.modified()?;
            let age = SystemTime::now().duration_since(changed);
            let is_part = entry.path().extension().is_some_and(|e| e == EXTENSION);
            if is_part && age.is_ok_and(|age| age > KEPT) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    pub(crate) fn outline(&self) -> &Arc<Outline> {
        &self.outline
    }

    /// Which pieces are here.
    pub(crate) fn have(&self) -> Bits {
        match &*self.place() {
            Place::Memory(kept) => {
                let mut have = Bits::none(pieces(&self.outline));
                for (piece, bytes) in (0..).zip(kept) {
                    have.set(piece, bytes.is_some());
                }
                have
            }
            Place::File { have, .. } => have.clone(),
        }
    }

    /// Stores a piece, whose bytes must be verified.
    pub(crate) fn put(&self, piece: u32, bytes: Bytes) -> io::Result<()> {
        match &mut *self.place() {
            Place::Memory(kept) => {
                if let Some(place) = kept.get_mut(piece as usize) {
                    *place = Some(bytes);
                }
            }
            Place::File { file, have, .. } => {
                file.seek(SeekFrom::Start(offset(piece)))?;
                file.write_all(&bytes)?;
                have.set(piece, true);
            }
        }
        Ok(())
    }

    /// Returns a piece that is here.
    pub(crate) fn get(&self, piece: u32) -> io::Result<Option<Bytes>> {
        match &mut *self.place() {
            Place::Memory(kept) => Ok(kept.get(piece as usize).cloned().flatten()),
            Place::File { file, have, .. } if have.has(piece) => {
                let length = self.outline.chunk_bytes(piece as usize).unwrap_or(0);
                read(file, piece, length).map(|bytes| Some(bytes.into()))
            }
            Place::File { .. } => Ok(None),
        }
    }

    /// The whole blob, or `None` if a piece is missing.
    pub(crate) fn whole(&self) -> io::Result<Option<Vec<u8>>> {
        let mut whole = Vec::new();
        let length = usize::try_from(self.outline.bytes).unwrap_or(usize::MAX);
        let reserved = whole.try_reserve_exact(length);
        reserved.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        for piece in 0..pieces(&self.outline) {
            let Some(bytes) = self.get(piece)? else {
                return Ok(None);
            };
            whole.extend_from_slice(&bytes);
        }
        Ok(Some(whole))
    }

    /// Bytes of memory that the pieces take.
    pub(crate) fn memory(&self) -> u64 {
        match &*self.place() {
            Place::Memory(_) => self.outline.bytes,
            Place::File { .. } => 0,
        }
    }

    /// Deletes the file, if there is one. Pieces can still be read while the parts are open.
    pub(crate) fn delete(&self) {
        if let Place::File { path, .. } = &*self.place()
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!("cannot delete {}: {error}", path.display());
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(folder: &Path, hash: &BlobHash) -> PathBuf {
    folder.join(hash.to_string()).with_extension(EXTENSION)
}

fn pieces(outline: &Outline) -> u32 {
    u32::try_from(outline.chunks.len()).unwrap_or(u32::MAX)
}

fn offset(piece: u32) -> u64 {
    u64::from(piece) * CHUNK_BYTES as u64
}

fn read(mut file: &File, piece: u32, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(offset(piece)))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Finds the pieces in a file by their hashes.
fn find(file: &File, outline: &Outline, have: &mut Bits) -> io::Result<()> {
    for piece in 0..pieces(outline) {
        let length = outline.chunk_bytes(piece as usize).unwrap_or(0);
        let bytes = read(file, piece, length)?;
        have.set(piece, outline.verify_chunk(piece as usize, &bytes).is_ok());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i / 1000 % 251) as u8).collect()
    }

    fn put(parts: &Parts, blob: &[u8], pieces: &[u32]) {
        for piece in pieces {
            let bytes = blob.chunks(CHUNK_BYTES).nth(*piece as usize).unwrap();
            parts.put(*piece, bytes.to_vec().into()).unwrap();
        }
    }

    #[test]
    fn pieces_in_memory_make_up_the_blob() {
        let blob = blob(2 * CHUNK_BYTES + 5);
        let parts = Parts::open(None, Outline::of(&blob).into()).unwrap();
        put(&parts, &blob, &[2, 0]);
        assert_eq!((parts.have().count(), parts.whole().unwrap()), (2, None));
        assert_eq!(parts.get(1).unwrap(), None);
        put(&parts, &blob, &[1]);
        assert_eq!(parts.whole().unwrap(), Some(blob));
    }

    #[test]
    fn a_later_fetch_finds_the_pieces_that_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let blob = blob(IN_MEMORY as usize + 7);
        let outline: Arc<_> = Outline::of(&blob).into();
        let open = || Parts::open(Some(folder.path()), Arc::clone(&outline)).unwrap();
        let parts = open();
        put(&parts, &blob, &[3, 5, 16]);
        assert_eq!(parts.memory(), 0);
        drop(parts);
        // A crash may leave a piece that is not whole.
        let path = path(folder.path(), &outline.hash());
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(offset(5) + 9)).unwrap();
        file.write_all(&[255]).unwrap();

        let parts = open();
        let have = parts.have();
        assert_eq!([3, 5, 16].map(|piece| have.has(piece)), [true, false, true]);
        let rest: Vec<_> = (0..17).filter(|piece| !have.has(*piece)).collect();
        put(&parts, &blob, &rest);
        assert!(parts.whole().unwrap().unwrap() == blob);
        parts.delete();
        assert!(!path.exists());
    }
}
