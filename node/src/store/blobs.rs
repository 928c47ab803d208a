//! Content-addressed files: contributions, data, tokenisers; and views of weights as blobs.
//!
//! A contribution is *hidden* until the round's commit phase has closed here, so that nobody can
//! copy what he has not already committed to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::ReadableTable;
use weal_kernels::Layout;
use weal_proto::{BlobHash, CHUNK_BYTES, Outline, RoundNumber};

use crate::error::{Error, Result};
use crate::folder::write_atomically;
use crate::store::weights::{WeightFiles, Weights};
use crate::store::{BLOBS, Store};

/// Marks a blob that no round's end deletes.
const PINNED: u64 = u64::MAX;

/// What a blob is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until this round is long decided.
    Round(RoundNumber),
    /// Always.
    Pinned,
}

#[derive(Debug, Clone)]
struct Entry {
    outline: Arc<Outline>,
    file: PathBuf,
    offset: u64,
    round: u64,
    hidden: bool,
}

/// Why a part of a blob is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// It is not here.
    NotHere,
    /// It is not to be revealed yet.
    NotYet,
}

/// The blobs of a data folder. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    folder: PathBuf,
    store: Store,
    index: Arc<RwLock<BTreeMap<BlobHash, Entry>>>,
}

impl Blobs {
    /// Opens the folder and reads its index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn open(folder: PathBuf, store: Store) -> Result<Self> {
        let rows = store.read(|tables| {
            let table = tables.open_table(BLOBS)?;
            let mut rows = Vec::new();
            for entry in table.iter()? {
                let (hash, value) = entry?;
                rows.push((hash.value().to_vec(), value.value().to_vec()));
            }
            Ok(rows)
        })?;
        let decided = store.decided_rounds()?;
        let blobs = Self {
            folder,
            store,
            index: Arc::default(),
        };
        for (hash, value) in rows {
            let Some((hash, round, outline)) = read_row(&hash, &value) else {
                return Err(Error::corrupt(
                    &blobs.folder,
                    "an entry of the blob index is not readable",
                ));
            };
            let file = blobs.path(&hash);
            // Decided rounds are no secret; the running one is revealed, again perhaps, when the
            // rules come to it.
            let hidden = round != PINNED && round >= decided;
            let entry = Entry {
                outline: outline.into(),
                file,
                offset: 0,
                round,
                hidden,
            };
            blobs.change(|index| index.insert(hash, entry));
        }
        Ok(blobs)
    }

    fn path(&self, hash: &BlobHash) -> PathBuf {
        path(&self.folder, hash)
    }

    fn look<T>(&self, look: impl FnOnce(&BTreeMap<BlobHash, Entry>) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<BlobHash, Entry>) -> T) -> T {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stores a blob durably; `hidden` ones are not served until [`Blobs::reveal`].
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put(&self, bytes: &[u8], keep: Keep, hidden: bool) -> Result<BlobHash> {
        let outline = Outline::of(bytes);
        let hash = outline.hash();
        let round = match keep {
            Keep::Round(round) => round.0,
            Keep::Pinned => PINNED,
        };
        let file = self.path(&hash);
        write_atomically(&file, bytes)?;
        self.enter(hash, outline, file, round, hidden)?;
        Ok(hash)
    }

    /// Takes in a file that is to stay: by a second name where it lies on the same disk, else as a
    /// copy. Its content is checked.
    ///
    /// # Errors
    /// When it is not the blob of this hash, or the disk refuses.
    pub fn put_file(&self, path: &Path, hash: &BlobHash) -> Result<()> {
        if self.has(hash) {
            return Ok(());
        }
        let bytes = fs::read(path).map_err(Error::storage("cannot read", path))?;
        let outline = Outline::of(&bytes);
        if outline.hash() != *hash {
            return Err(Error::Data(format!(
                "{}: its content has not the hash {hash}",
                path.display()
            )));
        }
        let file = self.path(hash);
        if !link(path, &file) {
            write_atomically(&file, &bytes)?;
        }
        self.enter(*hash, outline, file, PINNED, false)
    }

    /// The file that a blob lies in, if it is here.
    pub fn file(&self, hash: &BlobHash) -> Option<PathBuf> {
        self.look(|index| index.get(hash).map(|entry| entry.file.clone()))
    }

    fn enter(
        &self,
        hash: BlobHash,
        outline: Outline,
        file: PathBuf,
        round: u64,
        hidden: bool,
    ) -> Result<()> {
        self.store.write(|tables| {
            tables.open_table(BLOBS)?.insert(
                hash.as_bytes().as_slice(),
                write_row(round, &outline).as_slice(),
            )?;
            Ok(())
        })?;
        let entry = Entry {
            outline: outline.into(),
            file,
            offset: 0,
            round,
            hidden,
        };
        self.change(|index| index.insert(hash, entry));
        Ok(())
    }

    /// From now on the blob is served.
    pub fn reveal(&self, hash: &BlobHash) {
        self.change(|index| {
            if let Some(entry) = index.get_mut(hash) {
                entry.hidden = false;
            }
        });
    }

    /// Whether the blob is here.
    pub fn has(&self, hash: &BlobHash) -> bool {
        self.look(|index| index.contains_key(hash))
    }

    /// Reads a whole blob and checks it. One that is damaged is forgotten, so that it can be
    /// fetched again.
    ///
    /// # Errors
    /// When the file cannot be read for another reason than not being there.
    pub fn get(&self, hash: &BlobHash) -> Result<Option<Vec<u8>>> {
        let Some(entry) = self.look(|index| index.get(hash).cloned()) else {
            return Ok(None);
        };
        let length = usize::try_from(entry.outline.bytes).unwrap_or(usize::MAX);
        let bytes = match read_at(&entry.file, entry.offset, length) {
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                self.forget(hash)?;
                return Ok(None);
            }
            Err(error) => return Err(Error::storage("cannot read a blob", &entry.file)(error)),
        };
        if Outline::of(&bytes).hash() == *hash {
            return Ok(Some(bytes));
        }
        tracing::warn!(blob = %hash, file = %entry.file.display(), "a blob on disk is damaged; it is fetched again");
        self.forget(hash)?;
        Ok(None)
    }

    /// Outline of a blob, for a peer that asks.
    ///
    /// # Errors
    /// [`Withheld`] when it is not here or not revealed.
    pub fn outline(&self, hash: &BlobHash) -> Result<Arc<Outline>, Withheld> {
        self.shown(hash).map(|entry| entry.outline)
    }

    /// A chunk of a blob, for a peer that asks. The peer checks it.
    ///
    /// # Errors
    /// [`Withheld`] when it is not here, not revealed, or cannot be read.
    pub fn chunk(&self, hash: &BlobHash, index: u32) -> Result<Vec<u8>, Withheld> {
        let entry = self.shown(hash)?;
        let index = usize::try_from(index).map_err(|_| Withheld::NotHere)?;
        let length = entry.outline.chunk_bytes(index).ok_or(Withheld::NotHere)?;
        let start = entry
            .offset
            .saturating_add((index as u64).saturating_mul(CHUNK_BYTES as u64));
        read_at(&entry.file, start, length).map_err(|error| {
            tracing::debug!(%error, file = %entry.file.display(), "a chunk cannot be read");
            Withheld::NotHere
        })
    }

    fn shown(&self, hash: &BlobHash) -> Result<Entry, Withheld> {
        let entry = self
            .look(|index| index.get(hash).cloned())
            .ok_or(Withheld::NotHere)?;
        if entry.hidden {
            Err(Withheld::NotYet)
        } else {
            Ok(entry)
        }
    }

    /// Serves the tensors of stored weights as blobs, in place of those of rounds that are no
    /// longer on disk.
    pub fn show_weights(
        &self,
        layout: &Layout,
        weights: &Weights,
        files: &WeightFiles,
        kept: &[RoundNumber],
    ) {
        let file = files.path(weights.round);
        self.change(|index| {
            index.retain(|_, entry| {
                entry.file.extension().is_none_or(|e| e != "f32")
                    || kept.iter().any(|r| files.path(*r) == entry.file)
            });
            for (range, outline) in layout.ranges().zip(&weights.outline.tensors) {
                let entry = Entry {
                    outline: Arc::new(outline.clone()),
                    file: file.clone(),
                    offset: range.start as u64 * 4,
                    round: PINNED,
                    hidden: false,
                };
                index.insert(outline.hash(), entry);
            }
        });
    }

    /// The oldest round whose contributions are here.
    pub fn oldest_round(&self) -> Option<RoundNumber> {
        self.look(|index| {
            index
                .values()
                .map(|e| e.round)
                .filter(|r| *r != PINNED)
                .min()
                .map(RoundNumber)
        })
    }

    /// Deletes the contributions of rounds before this one.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub fn prune(&self, before: RoundNumber) -> Result<()> {
        let old: Vec<_> = self.look(|index| {
            index
                .iter()
                .filter(|(_, entry)| entry.round < before.0)
                .map(|(hash, _)| *hash)
                .collect()
        });
        old.iter().try_for_each(|hash| self.forget(hash))
    }

    fn forget(&self, hash: &BlobHash) -> Result<()> {
        let Some(entry) = self.change(|index| index.remove(hash)) else {
            return Ok(());
        };
        self.store.write(|tables| {
            tables
                .open_table(BLOBS)?
                .remove(hash.as_bytes().as_slice())?;
            Ok(())
        })?;
        match fs::remove_file(&entry.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::storage("cannot delete", &entry.file)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Where a blob lies in a folder of blobs.
pub fn path(folder: &Path, hash: &BlobHash) -> PathBuf {
    let name = hash.to_string();
    let (group, _) = name.split_at(2);
    folder.join(group).join(&name)
}

/// Gives a file a second name. Says whether it could: not from one disk to another, nor where the
/// system has no such thing.
fn link(path: &Path, name: &Path) -> bool {
    // What stands there is in no index.
    let _ = fs::remove_file(name);
    name.parent()
        .is_some_and(|folder| fs::create_dir_all(folder).is_ok())
        && fs::hard_link(path, name).is_ok()
}

fn read_at(path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn write_row(round: u64, outline: &Outline) -> Vec<u8> {
    [
        &round.to_le_bytes(),
        &outline.bytes.to_le_bytes(),
        outline.chunks.as_flattened(),
    ]
    .concat()
}

fn read_row(hash: &[u8], value: &[u8]) -> Option<(BlobHash, u64, Outline)> {
    let hash = BlobHash::from(<[u8; 32]>::try_from(hash).ok()?);
    let (round, rest) = value.split_first_chunk::<8>()?;
    let (bytes, rest) = rest.split_first_chunk::<8>()?;
    let (chunks, rest) = rest.as_chunks::<32>();
    let outline = Outline {
        bytes: u64::from_le_bytes(*bytes),
        chunks: chunks.to_vec(),
    };
    (rest.is_empty() && outline.hash() == hash).then(|| (hash, u64::from_le_bytes(*round), outline))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(dir: &Path) -> Blobs {
        let store = Store::open(&dir.join("store.redb"), [1; 32].into()).unwrap();
        Blobs::open(dir.join("blobs"), store).unwrap()
    }

    #[test]
    fn a_hidden_blob_is_served_only_once_revealed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(dir.path());
        let hash = blobs
            .put(b"learnt", Keep::Round(RoundNumber(3)), true)
            .unwrap();
        assert_eq!(blobs.chunk(&hash, 0), Err(Withheld::NotYet));
        assert_eq!(
            blobs.get(&hash).unwrap().as_deref(),
            Some(b"learnt".as_slice()),
            "its owner may read it"
        );
        blobs.reveal(&hash);
        assert_eq!(blobs.chunk(&hash, 0).unwrap(), b"learnt");
        assert_eq!(blobs.chunk(&hash, 1), Err(Withheld::NotHere));
    }

    #[test]
    fn a_damaged_blob_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(dir.path());
        let hash = blobs.put(b"learnt", Keep::Pinned, false).unwrap();
        fs::write(blobs.path(&hash), b"burned").unwrap();
        assert_eq!(blobs.get(&hash).unwrap(), None);
        assert!(!blobs.has(&hash));
    }

    #[test]
    fn a_file_is_taken_in_without_a_copy_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(dir.path());
        let path = dir.path().join("shard");
        fs::write(&path, b"tokens").unwrap();
        let hash = Outline::of(b"tokens").hash();
        assert_eq!(
            blobs.put_file(&path, &[9; 32].into()).unwrap_err().code(),
            4
        );
        blobs.put_file(&path, &hash).unwrap();
        blobs.put_file(&path, &hash).unwrap();
        assert_eq!(
            blobs.get(&hash).unwrap().as_deref(),
            Some(b"tokens".as_slice())
        );
        fs::remove_file(&path).unwrap();
        assert_eq!(blobs.chunk(&hash, 0).unwrap(), b"tokens");
    }

    #[test]
    fn the_index_survives_a_restart_and_old_rounds_go() {
        let dir = tempfile::tempdir().unwrap();
        let old = blobs(dir.path())
            .put(b"old", Keep::Round(RoundNumber(1)), false)
            .unwrap();
        let reopened = blobs(dir.path());
        let data = reopened
            .put(&vec![5; CHUNK_BYTES + 1], Keep::Pinned, false)
            .unwrap();
        assert!(reopened.has(&old));
        reopened.prune(RoundNumber(2)).unwrap();
        assert!(!reopened.has(&old));
        assert_eq!(reopened.outline(&data).unwrap().chunks.len(), 2);
    }
}
