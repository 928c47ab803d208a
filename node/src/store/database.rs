//! The database: one redb file.
//!
//! A commit returns only once it is on disk. That is why a node can be killed at any instant and
//! come back without contradicting itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use weal_proto::{Decided, Message, RoundNumber, RunId};

use crate::error::{Error, Result};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const DECIDED: TableDefinition<u64, &[u8]> = TableDefinition::new("decided");
pub(super) const AGREEMENT: TableDefinition<(u64, u64), &[u8]> =
    TableDefinition::new("agreement log");
pub(super) const OWN: TableDefinition<(u64, u8), &[u8]> = TableDefinition::new("own messages");
const PEERS: TableDefinition<&str, &[u8]> = TableDefinition::new("peers");
const HISTORY: TableDefinition<u64, &[u8]> = TableDefinition::new("history");
pub(super) const BLOBS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("blobs");

const RUN: &str = "run";
/// Peers whose addresses are kept for the next start.
const KEPT_PEERS: usize = 256;

/// The database of a data folder. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Arc<Database>,
    path: PathBuf,
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
        let db = Database::create(path).map_err(|error| failed(path, error))?;
        let store = Self {
            db: Arc::new(db),
            path: path.to_owned(),
        };
        store.make_tables(run)?;
        let present = store.read(|tables| {
            Ok(tables
                .open_table(META)?
                .get(RUN)?
                .map(|value| value.value().to_vec()))
        })?;
        if present.as_deref() == Some(run.as_bytes().as_slice()) {
            Ok(store)
        } else {
            Err(Error::folder(format!(
                "{}: holds another run than {}",
                path.display(),
                run.short()
            )))
        }
    }

    fn make_tables(&self, run: RunId) -> Result<()> {
        self.write(|tables| {
            let mut meta = tables.open_table(META)?;
            tables.open_table(DECIDED)?;
            tables.open_table(AGREEMENT)?;
            tables.open_table(OWN)?;
            tables.open_table(PEERS)?;
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
        let attempt = || {
            let transaction = self.db.begin_write()?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        attempt().map_err(|error: redb::Error| failed(&self.path, error))
    }

    pub(crate) fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T> {
        let attempt = || look(&self.db.begin_read()?);
        attempt().map_err(|error: redb::Error| failed(&self.path, error))
    }

    /// The number of decided rounds.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn decided_rounds(&self) -> Result<u64> {
        self.read(|tables| {
            Ok(tables
                .open_table(DECIDED)?
                .last()?
                .map_or(0, |(round, _)| round.value() + 1))
        })
    }

    /// Decided rounds in order, starting with `from`: at most `at_most`, and about `bytes` bytes.
    /// The first one is returned however long it is.
    ///
    /// # Errors
    /// When the database cannot be read or is damaged.
    pub fn decided(&self, from: RoundNumber, at_most: usize, bytes: usize) -> Result<Vec<Decided>> {
        let encoded = self.read(|tables| {
            let table = tables.open_table(DECIDED)?;
            let mut found = Vec::new();
            let mut size = 0;
            for entry in table.range(from.0..)?.take(at_most) {
                let value = entry?.1.value().to_vec();
                size += value.len();
                if size > bytes && !found.is_empty() {
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

    /// Remembers where a peer was reached, for the next start.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remember_peer(&self, address: &str, unix_seconds: u64) -> Result<()> {
        self.write(|tables| {
            let mut peers = tables.open_table(PEERS)?;
            peers.insert(address, unix_seconds.to_be_bytes().as_slice())?;
            if peers.iter()?.count() > KEPT_PEERS {
                let mut oldest: Option<(Vec<u8>, String)> = None;
                for entry in peers.iter()? {
                    let (address, seen) = entry?;
                    let candidate = (seen.value().to_vec(), address.value().to_owned());
                    if oldest.as_ref().is_none_or(|known| candidate < *known) {
                        oldest = Some(candidate);
                    }
                }
                if let Some((_, address)) = oldest {
                    peers.remove(address.as_str())?;
                }
            }
            Ok(())
        })
    }

    /// Addresses at which peers were reached, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn known_peers(&self) -> Result<Vec<String>> {
        let mut known = self.read(|tables| {
            let mut known = Vec::new();
            for entry in tables.open_table(PEERS)?.iter()? {
                let (address, seen) = entry?;
                known.push((seen.value().to_vec(), address.value().to_owned()));
            }
            Ok(known)
        })?;
        known.sort_unstable_by(|a, b| b.cmp(a));
        Ok(known.into_iter().map(|(_, address)| address).collect())
    }

    /// Stores the record that the page shows of a round.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_history(&self, round: u64, record: &[u8]) -> Result<()> {
        self.write(|tables| {
            tables.open_table(HISTORY)?.insert(round, record)?;
            Ok(())
        })
    }

    /// The records of all rounds.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn history(&self) -> Result<Vec<Vec<u8>>> {
        self.read(|tables| {
            let table = tables.open_table(HISTORY)?;
            table
                .iter()?
                .map(|entry| Ok(entry?.1.value().to_vec()))
                .collect()
        })
    }
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
            Error::corrupt(path, source)
        }
        redb::Error::Io(source) => Error::storage("cannot read or write", path)(source),
        redb::Error::DatabaseAlreadyOpen => Error::folder_in_use(path.parent().unwrap_or(path)),
        other => Error::corrupt(path, other),
    }
}
