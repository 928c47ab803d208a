//! The pieces of a blob that are here: in the caller's file if it names a place, in memory for a
//! short blob, else in a file of the exchange. In a file, a later fetch finds them again.
//!
//! A file holds no list of pieces: whoever opens it verifies each piece against the outline, and so
//! does whoever reads one. So no crash can make it lie, and nor can somebody who writes to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use libp2p::bytes::Bytes;
use weal_proto::{BlobHash, CHUNK_BYTES, Outline};

use super::bits::Bits;
use super::file_place::FilePlace;
use super::holes::is_hole;

/// The longest blob that is kept in memory if there is a folder for parts.
const IN_MEMORY: u64 = 16 << 20;
/// Files of fetches that nobody continued for this time are deleted.
const KEPT: Duration = Duration::from_secs(3 * 24 * 3600);
const EXTENSION: &str = "part";
/// A piece of zeros.
static ZEROS: LazyLock<Outline> = LazyLock::new(|| Outline::of(&vec![0; CHUNK_BYTES]));

/// The verified pieces of one blob.
#[derive(Debug)]
pub(crate) struct Parts {
    outline: Arc<Outline>,
    place: Mutex<Place>,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<Option<Bytes>>),
    File(PartsInFile),
}

#[derive(Debug)]
struct PartsInFile {
    file: File,
    /// Where the blob begins in the file.
    start: u64,
    have: Bits,
    owner: Owner,
}

/// Whose file it is.
#[derive(Debug)]
enum Owner {
    /// The exchange's, which deletes it.
    Exchange(PathBuf),
    /// The caller's.
    Caller(FilePlace),
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
                let mut parts = PartsInFile {
                    file,
                    start: 0,
                    have: Bits::none(pieces(&outline)),
                    owner: Owner::Exchange(path),
                };
                if !is_new {
                    parts.find(&outline)?;
                }
                Place::File(parts)
            }
            _ => Place::Memory(vec![None; outline.chunks.len()]),
        };
        Ok(Self::new(outline, place))
    }

    /// Finds which pieces of a blob are at a place in the caller's file. Reads them all and may
    /// take a while.
    pub(crate) fn open_at(place: FilePlace, outline: Arc<Outline>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&place.path)?;
        let mut parts = PartsInFile {
            file,
            start: place.offset,
            have: Bits::none(pieces(&outline)),
            owner: Owner::Caller(place),
        };
        parts.find(&outline)?;
        Ok(Self::new(outline, Place::File(parts)))
    }

    fn new(outline: Arc<Outline>, place: Place) -> Self {
        Self {
            outline,
            place: Mutex::new(place),
        }
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
            Place::File(parts) => parts.have.clone(),
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
            Place::File(parts) => parts.put(piece, &bytes)?,
        }
        Ok(())
    }

    /// Returns a piece that is here, unless somebody has damaged it since.
    pub(crate) fn get(&self, piece: u32) -> io::Result<Option<Bytes>> {
        match &mut *self.place() {
            Place::Memory(kept) => Ok(kept.get(piece as usize).cloned().flatten()),
            Place::File(parts) if parts.have.has(piece) => {
                let found = parts.read(piece, &self.outline)?;
                Ok(found.map(Bytes::from))
            }
            Place::File(_) => Ok(None),
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

    /// Whether the pieces are at this place in the caller's file.
    pub(crate) fn is_at(&self, place: &FilePlace) -> bool {
        matches!(
            &*self.place(),
            Place::File(PartsInFile { owner: Owner::Caller(here), .. }) if here.is_at(place)
        )
    }

    /// Writes the whole blob to a place in the caller's file. Returns whether all pieces are here.
    pub(crate) fn copy_to(&self, place: &FilePlace) -> io::Result<bool> {
        let mut file = OpenOptions::new().write(true).open(&place.path)?;
        file.seek(SeekFrom::Start(place.offset))?;
        place.set_done(0);
        for piece in 0..pieces(&self.outline) {
            let Some(bytes) = self.get(piece)? else {
                return Ok(false);
            };
            file.write_all(&bytes)?;
            place.add_done(bytes.len());
        }
        Ok(true)
    }

    /// Bytes of memory that the pieces take.
    pub(crate) fn memory(&self) -> u64 {
        match &*self.place() {
            Place::Memory(_) => self.outline.bytes,
            Place::File(_) => 0,
        }
    }

    /// Deletes the file, if it is the exchange's. Pieces can still be read while the parts are
    /// open.
    pub(crate) fn delete(&self) {
        if let Place::File(parts) = &*self.place()
            && let Owner::Exchange(path) = &parts.owner
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

impl PartsInFile {
    /// Finds the pieces in the file by their hashes.
    fn find(&mut self, outline: &Outline) -> io::Result<()> {
        let mut found = 0;
        for piece in 0..pieces(outline) {
            // Where nothing was ever written, there are zeros, which need not be read.
            if self.is_hole(piece)? && outline.chunks.get(piece as usize) != ZEROS.chunks.first() {
                continue;
            }
            if let Some(bytes) = self.read(piece, outline)? {
                self.have.set(piece, true);
                found += bytes.len() as u64;
            }
        }
        if let Owner::Caller(place) = &self.owner {
            place.set_done(found);
        }
        Ok(())
    }

    fn put(&mut self, piece: u32, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.offset(piece)))?;
        self.file.write_all(bytes)?;
        if !self.have.has(piece)
            && let Owner::Caller(place) = &self.owner
        {
            place.add_fetched(bytes.len());
        }
        self.have.set(piece, true);
        Ok(())
    }

    /// The bytes at the place of a piece, if they are the piece.
    fn read(&mut self, piece: u32, outline: &Outline) -> io::Result<Option<Vec<u8>>> {
        let length = outline.chunk_bytes(piece as usize).unwrap_or(0);
        let mut bytes = vec![0; length];
        self.file.seek(SeekFrom::Start(self.offset(piece)))?;
        self.file.read_exact(&mut bytes)?;
        let is_whole = outline.verify_chunk(piece as usize, &bytes).is_ok();
        Ok(is_whole.then_some(bytes))
    }

    fn is_hole(&self, piece: u32) -> io::Result<bool> {
        is_hole(&self.file, self.offset(piece), CHUNK_BYTES as u64)
    }

    fn offset(&self, piece: u32) -> u64 {
        self.start.saturating_add(offset(piece))
    }
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

    #[test]
    fn pieces_go_to_their_place_in_the_callers_file_and_are_found_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let (before, blob, after) = (vec![1; 700], blob(3 * CHUNK_BYTES + 9), vec![2; 50]);
        let outline: Arc<_> = Outline::of(&blob).into();
        let place = FilePlace::new(folder.path().join("weights"), before.len() as u64);
        let mut old = blob.clone();
        old[CHUNK_BYTES + 5] ^= 1;
        old[3 * CHUNK_BYTES] ^= 1;
        fs::write(&place.path, [&before[..], &old, &after].concat()).unwrap();

        let done = || place.done.load(std::sync::atomic::Ordering::Relaxed);
        let open = || Parts::open_at(place.clone(), Arc::clone(&outline)).unwrap();
        let parts = open();
        let found = parts.have();
        assert_eq!(
            [0, 1, 2, 3].map(|piece| found.has(piece)),
            [true, false, true, false]
        );
        assert_eq!((parts.memory(), done()), (0, 2 * CHUNK_BYTES as u64));
        put(&parts, &blob, &[1]);
        drop(parts);
        let parts = open();
        assert_eq!((parts.have().count(), done()), (3, 3 * CHUNK_BYTES as u64));
        put(&parts, &blob, &[3]);
        let fetched = place.fetched.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(
            (done(), fetched),
            (blob.len() as u64, CHUNK_BYTES as u64 + 9)
        );
        parts.delete();
        let whole = [&before[..], &blob, &after].concat();
        assert!(fs::read(&place.path).unwrap() == whole);

        // A second place for the same blob gets a copy.
        let other = FilePlace::new(folder.path().join("other"), 0);
        fs::write(&other.path, b"").unwrap();
        assert!(parts.is_at(&place) && !parts.is_at(&other));
        assert!(parts.copy_to(&other).unwrap());
        assert!(fs::read(&other.path).unwrap() == blob);
    }

    #[test]
    fn pieces_of_zeros_are_found_where_nothing_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let place = FilePlace::new(folder.path().join("weights"), 0);
        let mut blob = blob(4 * CHUNK_BYTES + 9);
        blob[CHUNK_BYTES..2 * CHUNK_BYTES].fill(0);
        let file = File::create_new(&place.path).unwrap();
        file.set_len(blob.len() as u64).unwrap();
        let open = || Parts::open_at(place.clone(), Outline::of(&blob).into()).unwrap();
        let parts = open();
        put(&parts, &blob, &[2]);
        let found = [parts.have(), open().have()];
        for have in found {
            let have = [0, 1, 2, 3, 4].map(|piece| have.has(piece));
            assert_eq!(have, [false, true, true, false, false]);
        }
    }

    #[test]
    fn a_piece_that_was_overwritten_is_not_sent_on() {
        let folder = tempfile::tempdir().unwrap();
        let blob = blob(2 * CHUNK_BYTES);
        let place = FilePlace::new(folder.path().join("weights"), 0);
        fs::write(&place.path, &blob).unwrap();
        let parts = Parts::open_at(place.clone(), Outline::of(&blob).into()).unwrap();
        assert!(parts.have().is_complete());
        let mut file = OpenOptions::new().write(true).open(&place.path).unwrap();
        file.write_all(b"the next round's weights").unwrap();
        assert_eq!(parts.get(0).unwrap(), None);
        assert!(parts.get(1).unwrap().is_some());
        let other = FilePlace::new(place.path.with_extension("other"), 0);
        fs::write(&other.path, b"").unwrap();
        assert!(!parts.copy_to(&other).unwrap());
    }
}
