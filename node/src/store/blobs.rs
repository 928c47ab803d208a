//! Content-addressed files: contributions, data and tokenisers. Tensors of stored weights are
//! served as blobs too, without a copy.
//!
//! A contribution is *hidden*, which means not served, until the round's commit phase is over on
//! this node: no peer can copy a contribution before it has committed to its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::ReadableTable;
use weal_files::Access;
use weal_kernels::Layout;
use weal_proto::{BlobHash, CHUNK_BYTES, Outline, RoundNumber};

use crate::error::{Error, Result};
use crate::store::database::{BLOBS, Store};
use crate::store::weights::{WeightFiles, Weights};

/// The round of a blob that is never deleted.
const PINNED: u64 = u64::MAX;

/// How long a blob is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until [`Blobs::prune`] deletes this round.
    Round(RoundNumber),
    /// Always.
    Pinned,
}

#[derive(Debug, Clone)]
struct Entry {
    outline: Arc<Outline>,
    file: PathBuf,
    /// Where the blob begins in the file; not 0 for a tensor of stored weights.
    offset: u64,
    round: u64,
    hidden: bool,
}

/// Why a blob is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// The node does not have it.
    NotHere,
    /// It is hidden.
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
                    "an entry of the blob index cannot be read",
                ));
            };
            let file = blobs.path(&hash);
            // Contributions to decided rounds are public. The core reveals those to the running
            // round, if need be once more.
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

    /// Stores a blob durably. A `hidden` one is not served before [`Blobs::reveal`].
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn put(&self, bytes: &[u8], keep: Keep, hidden: bool) -> Result<BlobHash> {
        let outline = Outline::of(bytes);
        let hash = outline.hash();
        let round = match keep {
            Keep::Round(round) => round.0,
            Keep::Pinned => PINNED,
        };
        let file = self.path(&hash);
        weal_files::write(&file, Access::Owner, bytes)?;
        self.enter(hash, outline, file, round, hidden)?;
        Ok(hash)
    }

    /// Stores a file that is never deleted, as a hard link or else as a copy. Its content is
    /// checked.
    ///
    /// # Errors
    /// When it is not the blob of this hash, or the disk cannot be written.
    pub fn put_file(&self, path: &Path, hash: &BlobHash) -> Result<()> {
        if self.has(hash) {
            return Ok(());
        }
        let bytes = fs::read(path).map_err(Error::storage("cannot read", path))?;
        let outline = Outline::of(&bytes);
        if outline.hash() != *hash {
            return Err(Error::data(format!(
                "{}: its content does not have the hash {hash}",
                path.display()
            )));
        }
        let file = self.path(hash);
        weal_files::link_or_write(path, &file, Access::Owner, &bytes)?;
        self.enter(*hash, outline, file, PINNED, false)
    }

    /// The file that holds a blob.
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

    /// Serves the blob from now on.
    pub fn reveal(&self, hash: &BlobHash) {
        self.change(|index| {
            if let Some(entry) = index.get_mut(hash) {
                entry.hidden = false;
            }
        });
    }

    /// Whether the node has the blob.
    pub fn has(&self, hash: &BlobHash) -> bool {
        self.look(|index| index.contains_key(hash))
    }

    /// Reads a blob and checks it. A blob that is damaged or missing on disk is forgotten, so that
    /// it can be fetched again.
    ///
    /// # Errors
    /// When the file exists but cannot be read.
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
        tracing::warn!(
            "blob {hash} is damaged in {}; fetching it again",
            entry.file.display()
        );
        self.forget(hash)?;
        Ok(None)
    }

    /// The outline of a blob, for a peer.
    ///
    /// # Errors
    /// When the node does not have it, or it is hidden.
    pub fn outline(&self, hash: &BlobHash) -> Result<Arc<Outline>, Withheld> {
        self.shown(hash).map(|entry| entry.outline)
    }

    /// A chunk of a blob, for a peer, which checks it.
    ///
    /// # Errors
    /// When the node does not have it or cannot read it, or it is hidden.
    pub fn chunk(&self, hash: &BlobHash, index: u32) -> Result<Vec<u8>, Withheld> {
        let entry = self.shown(hash)?;
        let index = usize::try_from(index).map_err(|_| Withheld::NotHere)?;
        let length = entry.outline.chunk_bytes(index).ok_or(Withheld::NotHere)?;
        let start = entry
            .offset
            .saturating_add((index as u64).saturating_mul(CHUNK_BYTES as u64));
        read_at(&entry.file, start, length).map_err(|error| {
            tracing::debug!("cannot read a chunk of {}: {error}", entry.file.display());
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

    /// Serves the tensors of stored weights as blobs, and no longer those of weights that are not
    /// `kept`.
    pub(crate) fn show_weights(
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

    /// The oldest round whose contributions the node has.
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

/// Path of a blob in a folder of blobs.
pub fn path(folder: &Path, hash: &BlobHash) -> PathBuf {
    let name = hash.to_string();
    let (group, _) = name.split_at(2);
    folder.join(group).join(&name)
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
    let hash: [u8; 32] = hash.try_into().ok()?;
    let (round, rest) = value.split_first_chunk::<8>()?;
    let (bytes, rest) = rest.split_first_chunk::<8>()?;
    let (chunks, rest) = rest.as_chunks::<32>();
    let outline = Outline {
        bytes: u64::from_le_bytes(*bytes),
        chunks: chunks.to_vec(),
    };
    let hash = BlobHash::from(hash);
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
