//! What must survive a crash: decided rounds, own messages, known peers, the index of blobs.
//!
//! One redb database. A commit returns only once it is on disk: that is what lets a node be killed
//! at any instant and come back without contradicting itself.

pub mod blobs;
pub mod learner;
pub mod weights;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use weal_coordinator_free::Record;
use weal_proto::{Decided, Envelope, Message, RoundNumber, RunId};

use crate::error::{Error, ErrorKind, Result};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const DECIDED: TableDefinition<u64, &[u8]> = TableDefinition::new("decided");
const AGREEMENT: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("agreement log");
const OWN: TableDefinition<(u64, u8), &[u8]> = TableDefinition::new("own messages");
const PEERS: TableDefinition<&str, &[u8]> = TableDefinition::new("peers");
const HISTORY: TableDefinition<u64, &[u8]> = TableDefinition::new("history");
pub(crate) const BLOBS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("blobs");

const RUN: &str = "run";
/// Rounds of own messages and agreement logs that are kept behind the newest decision: enough to
/// answer "did I?".
const KEPT_ROUNDS: u64 = 8;
/// Addresses kept for the next start.
const KEPT_PEERS: usize = 256;

/// The kinds of own messages that are kept.
#[derive(Clone, Copy)]
enum Own {
    Commitment = 1,
    Attestation = 2,
    Leave = 3,
}

/// The database of one data folder.
#[derive(Clone)]
pub struct Store {
    db: Arc<Database>,
    path: PathBuf,
}

/// What the newest undecided round left on disk.
#[derive(Debug, Default)]
pub struct OpenRound {
    /// Own messages and agreement log entries, in the order they were written.
    pub records: Vec<Record>,
}

impl Store {
    /// Opens or makes the database of a run.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, or belongs to another run.
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
        store.write(|tables| {
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
        })?;
        let present = store.read(|tables| {
            Ok(tables
                .open_table(META)?
                .get(RUN)?
                .map(|v| v.value().to_vec()))
        })?;
        if present.as_deref() == Some(run.as_bytes().as_slice()) {
            Ok(store)
        } else {
            Err(Error::folder(format!(
                "{}: holds another run than {}; choose another folder with --dir",
                path.display(),
                run.short()
            )))
        }
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

    /// Stores records in one transaction: all of them are on disk when this returns, or none.
    ///
    /// # Errors
    /// When the disk refuses. The node must then stop: going on could make it contradict itself.
    pub fn persist(&self, records: &[&Record]) -> Result<()> {
        self.write(|tables| {
            for record in records {
                write_record(tables, record)?;
            }
            Ok(())
        })
    }

    /// Number of decided rounds.
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

    /// Decided rounds from one on, at most so many and about so many bytes (at least one, if there
    /// is one).
    ///
    /// # Errors
    /// When the database cannot be read, or holds what cannot be decoded.
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

    /// Own commitment of a round.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn own_commitment(&self, round: RoundNumber) -> Result<Option<Envelope>> {
        let key = (round.0, Own::Commitment as u8);
        let bytes = self.read(|tables| {
            Ok(tables
                .open_table(OWN)?
                .get(key)?
                .map(|v| v.value().to_vec()))
        })?;
        bytes.map(|bytes| self.envelope(&bytes)).transpose()
    }

    /// What rounds not decided yet left on disk.
    ///
    /// # Errors
    /// When the database cannot be read, or holds what cannot be decoded.
    pub fn open_round(&self) -> Result<OpenRound> {
        let round = self.decided_rounds()?;
        let (own, log) = self.read(|tables| {
            let (mut own, mut log) = (Vec::new(), Vec::new());
            for entry in tables.open_table(OWN)?.range((round, 0)..)? {
                let (key, value) = entry?;
                own.push((key.value().1, value.value().to_vec()));
            }
            for entry in tables.open_table(AGREEMENT)?.range((round, 0)..)? {
                let (key, value) = entry?;
                log.push((key.value().0, value.value().to_vec()));
            }
            Ok((own, log))
        })?;
        let mut records = Vec::new();
        for (kind, bytes) in own {
            let envelope = self.envelope(&bytes)?;
            records.push(match kind {
                k if k == Own::Commitment as u8 => Record::OwnCommitment(envelope),
                k if k == Own::Attestation as u8 => Record::OwnAttestation(envelope),
                _ => Record::OwnLeave(envelope),
            });
        }
        records.extend(log.into_iter().map(|(round, bytes)| Record::AgreementLog {
            round: RoundNumber(round),
            bytes,
        }));
        Ok(OpenRound { records })
    }

    fn envelope(&self, bytes: &[u8]) -> Result<Envelope> {
        Envelope::decode(bytes).map_err(|why| Error::corrupt(&self.path, why))
    }

    /// Remembers where peers were reached, newest first next time.
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

    /// Addresses of known peers, last seen first.
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

    /// Stores what the page shows of a round.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_history(&self, round: u64, record: &[u8]) -> Result<()> {
        self.write(|tables| {
            tables.open_table(HISTORY)?.insert(round, record)?;
            Ok(())
        })
    }

    /// What the page shows of every round.
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

fn write_record(tables: &redb::WriteTransaction, record: &Record) -> Result<(), redb::Error> {
    let own = |kind: Own, envelope: &Envelope, round: u64| -> Result<(), redb::Error> {
        tables
            .open_table(OWN)?
            .insert((round, kind as u8), envelope.encode().as_slice())?;
        Ok(())
    };
    match record {
        Record::OwnCommitment(envelope) => own(Own::Commitment, envelope, round_of(envelope)),
        Record::OwnAttestation(envelope) => own(Own::Attestation, envelope, round_of(envelope)),
        Record::OwnLeave(envelope) => own(Own::Leave, envelope, round_of(envelope)),
        Record::AgreementLog { round, bytes } => {
            let mut table = tables.open_table(AGREEMENT)?;
            let next = table
                .range((round.0, 0)..=(round.0, u64::MAX))?
                .next_back()
                .transpose()?;
            let sequence = next.map_or(0, |(key, _)| key.value().1 + 1);
            table.insert((round.0, sequence), bytes.as_slice())?;
            Ok(())
        }
        Record::Decided(decided) => {
            let round = decided.value.round.0;
            tables
                .open_table(DECIDED)?
                .insert(round, decided.encode().as_slice())?;
            // Only earlier rounds go: the log of this one must survive its own replay.
            let oldest = round.saturating_sub(KEPT_ROUNDS);
            tables
                .open_table(OWN)?
                .retain_in(..(oldest, 0), |_, _| false)?;
            tables
                .open_table(AGREEMENT)?
                .retain_in(..(oldest, 0), |_, _| false)?;
            Ok(())
        }
    }
}

fn round_of(envelope: &Envelope) -> u64 {
    use weal_proto::{Attestation, Commitment, Kind, Leave};
    let round = match envelope.kind {
        Kind::Commitment => envelope.open::<Commitment>().map(|c| c.round),
        Kind::Attestation => envelope.open::<Attestation>().map(|a| a.round),
        _ => envelope.open::<Leave>().map(|l| l.round),
    };
    // Own messages are made by the rules and always open; an unreadable one sorts where nothing
    // prunes it.
    round.map_or(u64::MAX, |round| round.0)
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
            Error::corrupt(path, source)
        }
        redb::Error::Io(source) => Error::storage("cannot store", path)(source),
        redb::Error::DatabaseAlreadyOpen => Error::folder(format!(
            "{}: another weal process uses this data folder; stop it, or choose another folder with --dir",
            path.display()
        )),
        other => Error::corrupt(path, other),
    }
}
