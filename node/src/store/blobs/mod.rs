//! Content-addressed files: contributions, data and tokenisers. Tensors of stored weights are
//! served as blobs too, without a copy.
//!
//! A contribution is *hidden*, which means not served, until the core reveals it or its round is
//! decided: no peer can copy a contribution before it has committed to its own. The database knows
//! what was revealed, so that a restart in the middle of a round hides nothing again.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::ReadableTable;
use weal_files::Access;
use weal_kernels::Layout;
use weal_kernels::state::StateOutline;
use weal_proto::{BlobHash, CHUNK_BYTES, Outline, RoundNumber};

pub(crate) use self::entry::holds;
pub use self::entry::path;
use self::entry::{Entry, Of, PINNED, read_row, write_row};
use crate::error::{Error, Result};
use crate::store::database::{BLOBS, Store};
use crate::store::weights::WeightFiles;

/// How long a blob is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until [`Blobs::prune`] deletes this round.
    Round(RoundNumber),
    /// Always.
    Pinned,
}

/// What this node has under the hash of a blob that a commitment names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holding {
    /// Nothing.
    Nothing,
    /// A contribution to this round, of this length.
    Contribution,
    /// Something else, such as data of the run or a tensor of its weights.
    Else,
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
    /// Files of stored weights that were found damaged.
    damaged: Arc<Mutex<BTreeSet<PathBuf>>>,
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
        let blobs = Self {
            folder: folder.clone(),
            store,
            index: Arc::default(),
            damaged: Arc::default(),
        };
        for (hash, value) in rows {
            let Some((hash, entry)) = read_row(&folder, &hash, &value) else {
                return Err(Error::corrupt(
                    &folder,
                    "an entry of the blob index cannot be read",
                ));
            };
            blobs.change(|index| index.insert(hash, entry));
        }
        Ok(blobs)
    }

    fn path(&self, hash: &BlobHash) -> PathBuf {
        path(&self.folder, hash)
    }

    /// The file that lists the shards of tokens that were verified at an earlier start.
    pub(crate) fn verified_shards(&self) -> PathBuf {
        self.folder.with_file_name("verified-shards.json")
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
        self.enter(hash, Entry::of_file(outline, file, round, hidden))?;
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
        self.enter(*hash, Entry::of_file(outline, file, PINNED, false))
    }

    /// Stores a blob that is never deleted and that was fetched into a file, at its beginning. Its
    /// pieces were verified as they arrived. The file is cut, synced and renamed.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub(crate) fn take_fetched(&self, fetched: &Path, outline: &Outline) -> Result<()> {
        let hash = outline.hash();
        let file = self.path(&hash);
        let folder = file.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(Error::storage("cannot make the folder", folder))?;
        // A manifest may say that a blob is longer than it is.
        let cut = fs::OpenOptions::new().write(true).open(fetched);
        cut.and_then(|file| file.set_len(outline.bytes))
            .map_err(Error::storage("cannot write", fetched))?;
        weal_files::publish(fetched, &file)?;
        self.enter(hash, Entry::of_file(outline.clone(), file, PINNED, false))
    }

    /// The file that holds a blob, whose content is verified first, a few MiB at a time. A blob
    /// that is damaged or missing on disk is forgotten, so that it can be fetched again.
    ///
    /// # Errors
    /// When the file exists but cannot be read.
    pub(crate) fn sound_file(&self, hash: &BlobHash) -> Result<Option<PathBuf>> {
        let Some(file) = self.file(hash) else {
            return Ok(None);
        };
        match holds(&file, hash) {
            Ok(true) => return Ok(Some(file)),
            Ok(false) => tracing::warn!("blob {hash} is damaged in {}", file.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::storage("cannot read a blob", &file)(error)),
        }
        self.forget(hash)?;
        Ok(None)
    }

    /// The file that holds a blob.
    pub fn file(&self, hash: &BlobHash) -> Option<PathBuf> {
        self.look(|index| index.get(hash).map(|entry| entry.file.clone()))
    }

    fn enter(&self, hash: BlobHash, mut entry: Entry) -> Result<()> {
        // What is kept for longer stays so.
        if let Some(before) = self.look(|index| index.get(&hash).map(|entry| entry.round)) {
            entry.round = entry.round.max(before);
        }
        self.save(&[(hash, &entry)])?;
        self.change(|index| index.insert(hash, entry));
        Ok(())
    }

    /// Writes entries into the database.
    fn save(&self, entries: &[(BlobHash, &Entry)]) -> Result<()> {
        self.store.write(|tables| {
            let mut table = tables.open_table(BLOBS)?;
            for (hash, entry) in entries {
                table.insert(hash.as_bytes().as_slice(), write_row(entry).as_slice())?;
            }
            Ok(())
        })
    }

    /// Serves the blob from now on.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn reveal(&self, hash: &BlobHash) -> Result<()> {
        self.reveal_if(|candidate, _| candidate == hash)
    }

    /// Serves the contributions to this round and to earlier ones from now on: they are decided.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn reveal_until(&self, round: RoundNumber) -> Result<()> {
        self.reveal_if(|_, entry| entry.round <= round.0)
    }

    fn reveal_if(&self, which: impl Fn(&BlobHash, &Entry) -> bool) -> Result<()> {
        let revealed = self.change(|index| {
            let mut revealed = Vec::new();
            for (hash, entry) in index {
                if entry.hidden && which(hash, entry) {
                    entry.hidden = false;
                    revealed.push((*hash, entry.clone()));
                }
            }
            revealed
        });
        if revealed.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = revealed
            .iter()
            .map(|(hash, entry)| (*hash, entry))
            .collect();
        self.save(&rows)
    }

    /// What this node has under the hash that a commitment to `round` names. Reads nothing from
    /// disk.
    pub(crate) fn holding(&self, hash: &BlobHash, round: RoundNumber, bytes: u64) -> Holding {
        self.look(|index| match index.get(hash) {
            None => Holding::Nothing,
            Some(entry) if entry.round == round.0 && entry.outline.bytes == bytes => {
                Holding::Contribution
            }
            Some(_) => Holding::Else,
        })
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
        let bytes = match entry.read(0, length) {
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

    /// A chunk of a blob, for a peer. It is verified first.
    ///
    /// # Errors
    /// When the node does not have it, cannot read it or finds it damaged, or it is hidden.
    pub fn chunk(&self, hash: &BlobHash, index: u32) -> Result<Vec<u8>, Withheld> {
        let entry = self.shown(hash)?;
        let index = usize::try_from(index).map_err(|_| Withheld::NotHere)?;
        let length = entry.outline.chunk_bytes(index).ok_or(Withheld::NotHere)?;
        let start = (index as u64).saturating_mul(CHUNK_BYTES as u64);
        let chunk = entry.read(start, length).map_err(|error| {
            tracing::debug!("cannot read a chunk of {}: {error}", entry.file.display());
            Withheld::NotHere
        })?;
        // A peer would take a chunk that is damaged on this disk for a lie.
        if entry.outline.verify_chunk(index, &chunk).is_err() {
            self.damaged(&entry);
            return Err(Withheld::NotHere);
        }
        Ok(chunk)
    }

    fn damaged(&self, entry: &Entry) {
        let is_news = entry.of != Of::Weights || {
            let damaged = self.damaged.lock();
            let mut damaged = damaged.unwrap_or_else(PoisonError::into_inner);
            damaged.insert(entry.file.clone())
        };
        if is_news && entry.of != Of::PartialWeights {
            tracing::warn!("{} is damaged", entry.file.display());
        }
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

    /// Serves the tensors of these stored weights as blobs, and no longer those of any others.
    pub(crate) fn show_weights<'a>(
        &self,
        layout: &Layout,
        files: &WeightFiles,
        stored: impl IntoIterator<Item = (&'a RoundNumber, &'a Arc<StateOutline>)>,
    ) {
        self.change(|index| {
            index.retain(|_, entry| entry.of != Of::Weights);
            for (round, weights) in stored {
                let file = files.path(*round);
                for (range, outline) in layout.ranges().zip(&weights.tensors) {
                    let outline = Arc::new(outline.clone());
                    let entry = Entry::of_tensor(outline, &file, range.start, Of::Weights);
                    index.insert(entry.outline.hash(), entry);
                }
            }
        });
    }

    /// Serves a tensor of weights that are still being fetched. It begins at the value `start` of
    /// the file.
    pub(crate) fn show_fetched(&self, outline: Arc<Outline>, file: &Path, start: usize) {
        let hash = outline.hash();
        let entry = Entry::of_tensor(outline, file, start, Of::PartialWeights);
        // Stored weights stay where they are.
        self.change(|index| {
            index.entry(hash).or_insert(entry);
        });
    }

    /// Serves no tensor of weights that are being fetched any longer.
    pub(crate) fn hide_fetched(&self) {
        self.change(|index| index.retain(|_, entry| entry.of != Of::PartialWeights));
    }

    /// Files of stored weights that were found damaged since the last call.
    pub(crate) fn take_damaged(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The contributions of a round that the node serves to others.
    #[cfg(feature = "dishonest")]
    pub(crate) fn shown_of_round(&self, round: RoundNumber) -> Vec<BlobHash> {
        let is_shown = |entry: &Entry| entry.round == round.0 && !entry.hidden;
        self.look(|index| {
            let shown = index.iter().filter(|(_, entry)| is_shown(entry));
            shown.map(|(hash, _)| *hash).collect()
        })
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
        self.forget_if(|_, entry| entry.round < before.0)
    }

    /// Deletes the contributions to a round that are not among those to keep.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub(crate) fn prune_left_out(
        &self,
        round: RoundNumber,
        keep: &BTreeSet<BlobHash>,
    ) -> Result<()> {
        self.forget_if(|hash, entry| entry.round == round.0 && !keep.contains(hash))
    }

    fn forget_if(&self, which: impl Fn(&BlobHash, &Entry) -> bool) -> Result<()> {
        let old: Vec<_> = self.look(|index| {
            let old = index.iter().filter(|(hash, entry)| which(hash, entry));
            old.map(|(hash, _)| *hash).collect()
        });
        old.iter().try_for_each(|hash| self.forget(hash))
    }

    fn forget(&self, hash: &BlobHash) -> Result<()> {
        let Some(entry) = self.change(|index| index.remove(hash)) else {
            return Ok(());
        };
        let file = self.path(hash);
        if entry.of != Of::Itself {
            return Ok(());
        }
        self.store.write(|tables| {
            tables
                .open_table(BLOBS)?
                .remove(hash.as_bytes().as_slice())?;
            Ok(())
        })?;
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::storage("cannot delete", &file)(error))
            }
            _ => Ok(()),
        }
    }
}
