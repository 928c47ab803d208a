//! Where the decided rounds of this node begin, and the newest state that its link names.

use redb::WriteTransaction;
use weal_proto::RoundNumber;

use super::database::{META, Store};
use crate::anchor::Anchor;
use crate::error::Result;

/// The first round that this node knows. Absent if it knows all of them.
const FIRST: &str = "first";
/// The newest milestone: its round, and the hash of its snapshot.
const MILESTONE: &str = "milestone";

impl Store {
    /// The first decided round that this node knows, or is to know.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn first_round(&self) -> Result<RoundNumber> {
        let first = self.meta(FIRST)?.unwrap_or_default();
        Ok(RoundNumber(number(&first).unwrap_or_default()))
    }

    /// Notes that this node begins with the state before a round.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn begin_at(&self, first: RoundNumber) -> Result<()> {
        self.write(|tables| put(tables, FIRST, &first.0.to_be_bytes()))
    }

    /// The newest state that is kept for ever.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn milestone(&self) -> Result<Option<Anchor>> {
        let value = self.meta(MILESTONE)?.unwrap_or_default();
        let anchor = number(&value).and_then(|round| {
            let state: [u8; 32] = value.get(8..)?.try_into().ok()?;
            Some(Anchor {
                round: RoundNumber(round),
                state: state.into(),
            })
        });
        Ok(anchor)
    }

    /// Notes the newest state that is kept for ever.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn put_milestone(&self, milestone: Anchor) -> Result<()> {
        let Anchor { round, state } = milestone;
        let value = [&round.0.to_be_bytes()[..], state.as_bytes()].concat();
        self.write(|tables| put(tables, MILESTONE, &value))
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.read(|tables| {
            let value = tables.open_table(META)?.get(key)?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }
}

fn put(tables: &WriteTransaction, key: &str, value: &[u8]) -> Result<(), redb::Error> {
    tables.open_table(META)?.insert(key, value)?;
    Ok(())
}

/// The number at the beginning of a value.
fn number(value: &[u8]) -> Option<u64> {
    value.first_chunk().copied().map(u64::from_be_bytes)
}
