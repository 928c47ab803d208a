//! What the decided rounds led to, so that a start need not read them all.

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use weal_coordinator_free::host::retention;
use weal_proto::{ChainSnapshot, Message, RoundNumber};

use super::database::{SNAPSHOTS, Store};
use crate::error::Result;

/// Bytes of the hash before a snapshot.
const HASH_BYTES: usize = 32;

impl Store {
    /// The rounds before which a snapshot was stored, rising.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn snapshots(&self) -> Result<Vec<RoundNumber>> {
        self.read(|tables| {
            let table = tables.open_table(SNAPSHOTS)?;
            table
                .iter()?
                .map(|entry| Ok(RoundNumber(entry?.0.value())))
                .collect()
        })
    }

    /// What was decided before a round. `None` if no snapshot of that is stored, or if it is not
    /// sound: damaged, or not what leads to the decided rounds beside it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn snapshot(&self, round: RoundNumber) -> Result<Option<ChainSnapshot>> {
        let stored = self.read(|tables| {
            let table = tables.open_table(SNAPSHOTS)?;
            Ok(table.get(round.0)?.map(|value| value.value().to_vec()))
        })?;
        let Some(snapshot) = stored.and_then(|bytes| decode(&bytes)) else {
            return Ok(None);
        };
        let last = match round.previous() {
            Some(last) => self.decided(last, 1, 0)?,
            None => Vec::new(),
        };
        let follows = last.first().is_some_and(|last| {
            last.value.round.next() == round && last.value.hash() == snapshot.parent
        });
        Ok((follows && snapshot.round == round).then_some(snapshot))
    }
}

#[cfg(test)]
impl Store {
    /// Changes a byte of a stored snapshot. A second time changes it back.
    pub(crate) fn damage_snapshot(&self, round: RoundNumber, place: usize) {
        let changed = self.write(|tables| {
            let mut table = tables.open_table(SNAPSHOTS)?;
            let mut bytes = table.get(round.0)?.unwrap().value().to_vec();
            bytes[place] ^= 1;
            table.insert(round.0, bytes.as_slice())?;
            Ok(())
        });
        changed.unwrap();
    }
}

/// Stores a snapshot, and deletes those that are too many.
pub(super) fn write(
    tables: &WriteTransaction,
    snapshot: &ChainSnapshot,
) -> Result<(), redb::Error> {
    let mut table = tables.open_table(SNAPSHOTS)?;
    table.insert(snapshot.round.0, encode(snapshot).as_slice())?;
    while table.len()? > retention::SNAPSHOTS as u64 {
        table.pop_first()?;
    }
    Ok(())
}

/// The hash, and then the canonical bytes.
pub(crate) fn encode(snapshot: &ChainSnapshot) -> Vec<u8> {
    let bytes = snapshot.encode();
    let hash = ChainSnapshot::hash_of(&bytes);
    [hash.as_bytes().as_slice(), &bytes].concat()
}

/// `None` if the bytes are damaged, or of another format.
pub(crate) fn decode(stored: &[u8]) -> Option<ChainSnapshot> {
    let (hash, bytes) = stored.split_at_checked(HASH_BYTES)?;
    if ChainSnapshot::hash_of(bytes).as_bytes() != hash {
        return None;
    }
    ChainSnapshot::decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weal_coordinator_free::{Chain, Record};
    use weal_proto::{Manifest, SigningKey};

    use super::*;
    use crate::lone_founder::LoneFounder;
    use crate::new_run::{NewRun, RunFile};

    const KEY: [u8; 32] = [1; 32];

    fn manifest(dir: &Path) -> Manifest {
        let founder = SigningKey::from_seed(KEY).peer();
        let new = NewRun::from_file(&RunFile::default(), dir, founder, Path::new("run.toml"));
        new.unwrap().manifest
    }

    fn decided(manifest: &Manifest, rounds: u64) -> Vec<Record> {
        let key = SigningKey::from_seed(KEY);
        LoneFounder::new(manifest, &key, [7; 32].into()).decide_until(rounds)
    }

    fn store(dir: &Path, manifest: &Manifest, records: &[Record]) -> Store {
        let store = Store::open(&dir.join("store.redb"), manifest.run()).unwrap();
        store.persist(records).unwrap();
        store
    }

    #[test]
    fn the_newest_snapshots_are_kept_and_hold_what_was_decided() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = manifest(dir.path());
        let store = store(dir.path(), &manifest, &decided(&manifest, 140));
        let rounds = store.snapshots().unwrap();
        assert_eq!(rounds, [64, 96, 128].map(RoundNumber));
        let mut founder = LoneFounder::new(&manifest, &SigningKey::from_seed(KEY), [7; 32].into());
        for round in rounds {
            founder.decide_until(round.0);
            let snapshot = store.snapshot(round).unwrap();
            assert_eq!(snapshot, Some(founder.core().chain().snapshot()));
        }
        assert_eq!(store.snapshot(RoundNumber(32)).unwrap(), None);
    }

    #[test]
    fn a_damaged_snapshot_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = manifest(dir.path());
        let store = store(dir.path(), &manifest, &decided(&manifest, 64));
        let round = RoundNumber(64);
        assert!(store.snapshot(round).unwrap().is_some());
        for place in [0, 31, 32, 90, 300] {
            store.damage_snapshot(round, place);
            assert_eq!(store.snapshot(round).unwrap(), None, "byte {place}");
            store.damage_snapshot(round, place);
        }
        assert!(store.snapshot(round).unwrap().is_some());
    }

    #[test]
    fn a_snapshot_of_another_history_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = manifest(dir.path());
        let store = store(dir.path(), &manifest, &decided(&manifest, 40));
        let mut other = Chain::genesis(manifest.into()).snapshot();
        other.round = RoundNumber(32);
        store.persist(&[Record::Snapshot(other.into())]).unwrap();
        assert_eq!(store.snapshot(RoundNumber(32)).unwrap(), None);
    }
}
