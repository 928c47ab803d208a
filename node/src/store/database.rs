//! The database: one redb file.
//!
//! A commit returns only once it is on disk. That is why a node can be killed at any instant and
//! come back without contradicting itself.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use weal_proto::{Decided, Message, PeerId, RoundNumber, RunId, StateRoot, limits};

use crate::error::{Error, Result};

pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const DECIDED: TableDefinition<u64, &[u8]> = TableDefinition::new("decided");
pub(super) const AGREEMENT: TableDefinition<(u64, u64), &[u8]> =
    TableDefinition::new("agreement log");
pub(super) const OWN: TableDefinition<(u64, u8), &[u8]> = TableDefinition::new("own messages");
pub(super) const SNAPSHOTS: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshots");
pub(super) const HISTORY: TableDefinition<u64, &[u8]> = TableDefinition::new("history");
pub(super) const BLOBS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("blobs");

const RUN: &str = "run";
/// The right to begin at round 0.
pub(super) const GENESIS: &str = "genesis";
const PEER: &str = "peer";

/// The database of a data folder. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Arc<Handle>,
    path: PathBuf,
}

/// Memory that redb may use for pages of its file. By itself it takes up to 1 GiB, and a node reads
/// the whole history when it starts.
const CACHE_BYTES: usize = 32 << 20;

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// The open database. redb refuses everything after a failed write, so it is closed then, and the
/// next access opens it again.
struct Handle {
    open: RwLock<Option<Database>>,
    /// Whether it is closed because the disk was full.
    was_full: AtomicBool,
}

impl Handle {
    fn new(db: Database) -> Arc<Self> {
        Arc::new(Self {
            open: RwLock::new(Some(db)),
            was_full: AtomicBool::new(false),
        })
    }

    fn reopen(&self, path: &Path) -> Result<(), redb::Error> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = Some(builder().open(path)?);
        }
        Ok(())
    }

    /// Does something with the database.
    fn with<T>(
        &self,
        path: &Path,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let is_closed = || {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            open.is_none()
        };
        if is_closed() {
            self.reopen(path)?;
        }
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let done = open.as_ref().map_or(Err(redb::Error::PreviousIo), work);
        drop(open);
        done.map_err(|error| self.failed(error))
    }

    /// Closes the database after an error of the disk, and says which it was.
    fn failed(&self, error: redb::Error) -> redb::Error {
        let error = match error {
            redb::Error::Io(error) => {
                let is_full = matches!(
                    error.kind(),
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded
                );
                self.was_full.store(is_full, Ordering::Release);
                error
            }
            // Another thread's write failed.
            redb::Error::PreviousIo if self.was_full.load(Ordering::Acquire) => {
                ErrorKind::StorageFull.into()
            }
            redb::Error::PreviousIo => io::Error::other("an earlier write failed"),
            other => return other,
        };
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        *open = None;
        redb::Error::Io(error)
    }
}

impl Store {
    /// Opens the database of a run; makes it if it is missing.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged or belongs to another run.
    pub fn open(path: &Path, run: RunId) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(Error::storage("cannot make the folder", folder))?;
        }
        let db = builder()
            .create(path)
            .map_err(|error| failed(path, error))?;
        let store = Self {
            db: Handle::new(db),
            path: path.to_owned(),
        };
        store.make_tables(run)?;
        store.expect_run(run)?;
        Ok(store)
    }

    /// Opens the database of a run that was begun; never makes one.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged or belongs to another run.
    pub(crate) fn reopen(path: &Path, run: RunId) -> Result<Self> {
        let db = builder().open(path).map_err(|error| failed(path, error))?;
        let store = Self {
            db: Handle::new(db),
            path: path.to_owned(),
        };
        store.expect_run(run)?;
        store.make_tables(run)?;
        Ok(store)
    }

    fn expect_run(&self, run: RunId) -> Result<()> {
        let path = &self.path;
        let present = self.read(|tables| {
            Ok(tables
                .open_table(META)?
                .get(RUN)?
                .map(|value| value.value().to_vec()))
        })?;
        if present.as_deref() == Some(run.as_bytes().as_slice()) {
            Ok(())
        } else {
            Err(Error::folder(format!(
                "{}: holds another run than {}",
                path.display(),
                run.short()
            )))
        }
    }

    /// Remembers the peer whose messages these are; `false` if they are another's.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub(crate) fn belongs_to(&self, peer: PeerId) -> Result<bool> {
        let peer = peer.as_bytes().as_slice();
        self.write(|tables| {
            let mut meta = tables.open_table(META)?;
            let present = meta.get(PEER)?.map(|value| value.value().to_vec());
            if present.is_none() {
                meta.insert(PEER, peer)?;
            }
            Ok(present.is_none_or(|present| present == peer))
        })
    }

    /// Gives this node the right to begin the run at round 0. It ends with the first decision.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn grant_genesis(&self) -> Result<()> {
        self.write(|tables| {
            tables.open_table(META)?.insert(GENESIS, [].as_slice())?;
            Ok(())
        })
    }

    /// Whether this node may begin the run at round 0.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn has_genesis(&self) -> Result<bool> {
        self.read(|tables| Ok(tables.open_table(META)?.get(GENESIS)?.is_some()))
    }

    fn make_tables(&self, run: RunId) -> Result<()> {
        self.write(|tables| {
            let mut meta = tables.open_table(META)?;
            tables.open_table(DECIDED)?;
            tables.open_table(SNAPSHOTS)?;
            tables.open_table(AGREEMENT)?;
            tables.open_table(OWN)?;
            Self::make_peer_tables(tables)?;
            tables.open_table(HISTORY)?;
            tables.open_table(BLOBS)?;
            if meta.get(RUN)?.is_none() {
                meta.insert(RUN, run.as_bytes().as_slice())?;
            }
            Ok(())
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T> {
        self.write_with(Durability::Immediate, change)
    }

    /// Writes what need not survive a crash: it is on disk with the next [`Self::write`].
    pub(super) fn write_without_sync<T>(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T> {
        self.write_with(Durability::None, change)
    }

    fn write_with<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T> {
        let attempt = |db: &Database| -> Result<T, redb::Error> {
            let mut transaction = db.begin_write()?;
            transaction.set_durability(durability)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        let done = self.db.with(&self.path, attempt);
        done.map_err(|error| failed(&self.path, error))
    }

    pub(crate) fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T> {
        let done = self.db.with(&self.path, |db| look(&db.begin_read()?));
        done.map_err(|error| failed(&self.path, error))
    }

    /// The number of decided rounds.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn decided_rounds(&self) -> Result<u64> {
        let last = self.read(|tables| {
            let table = tables.open_table(DECIDED)?;
            Ok(table.last()?.map(|(round, _)| round.value()))
        })?;
        match last {
            Some(last) => Ok(last + 1),
            None => Ok(self.first_round()?.0),
        }
    }

    /// The state root of the weights at a round's start, if the round is decided.
    ///
    /// # Errors
    /// When the database cannot be read or is damaged.
    pub fn decided_root(&self, round: RoundNumber) -> Result<Option<StateRoot>> {
        let decided = self.decided(round, 1, 0)?;
        Ok(decided.first().map(|decided| decided.value.base_root))
    }

    /// Decided rounds in order, starting with `from`: at most `at_most`, and about `bytes` bytes.
    /// The first one is returned however long it is. None are if `from` is not decided, or not
    /// known here.
    ///
    /// # Errors
    /// When the database cannot be read or is damaged.
    pub fn decided(&self, from: RoundNumber, at_most: usize, bytes: usize) -> Result<Vec<Decided>> {
        let encoded = self.read(|tables| {
            let table = tables.open_table(DECIDED)?;
            let mut found = Vec::new();
            let mut size = 0;
            for entry in table.range(from.0..)?.take(at_most) {
                let (round, value) = entry?;
                let value = value.value().to_vec();
                size += value.len();
                let is_here = !found.is_empty() || round.value() == from.0;
                if !is_here || size > bytes && !found.is_empty() {
                    break;
                }
                found.push(value);
            }
            Ok(found)
        })?;
        encoded
            .iter()
            .map(|bytes| Decided::decode(bytes).map_err(|why| Error::corrupt(&self.path, why)))
            .collect()
    }

    /// Every decided round from one on, in order, read a few at a time. Ends with the first error.
    pub(crate) fn decided_from(&self, first: RoundNumber) -> impl Iterator<Item = Result<Decided>> {
        let mut next = Some(first);
        let batches = std::iter::from_fn(move || {
            let batch = self.decided(next?, limits::DECIDED_BATCH, usize::MAX);
            let last = batch.as_ref().ok().and_then(|batch| batch.last());
            next = last.map(|last| last.value.round.next());
            Some(batch)
        });
        batches.flat_map(|batch| match batch {
            Ok(batch) => batch.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Io(source)
            if matches!(
                source.kind(),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof
            ) =>
        {
            Error::corrupt(path, source)
        }
        redb::Error::Io(source) => Error::storage("cannot read or write", path)(source),
        redb::Error::DatabaseAlreadyOpen => Error::folder_in_use(path.parent().unwrap_or(path)),
        other => Error::corrupt(path, other),
    }
}
