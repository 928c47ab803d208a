//! What the page shows of each round.

use redb::{ReadableTable, ReadableTableMetadata};

use super::database::{HISTORY, Store};
use crate::error::Result;

impl Store {
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

    /// The records of the `newest` last rounds, and of about as many rounds before them, evenly
    /// spread. They rise by round. So a long run takes no longer to read than a short one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn history(&self, newest: usize) -> Result<Vec<Vec<u8>>> {
        self.read(|tables| {
            let table = tables.open_table(HISTORY)?;
            let mut records = Vec::new();
            let mut oldest = 0;
            for entry in table.iter()?.rev().take(newest) {
                let (round, record) = entry?;
                oldest = round.value();
                records.push(record.value().to_vec());
            }
            let older = table.len()?.saturating_sub(records.len() as u64);
            let step = older.div_ceil(newest.max(1) as u64).max(1);
            let mut end = oldest;
            while let Some(entry) = table.range(..end)?.next_back() {
                let (round, record) = entry?;
                records.push(record.value().to_vec());
                end = (round.value() + 1).saturating_sub(step);
            }
            records.reverse();
            Ok(records)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(all: impl IntoIterator<Item = u8>, newest: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store.redb"), [1; 32].into()).unwrap();
        for round in all {
            store.put_history(round.into(), &[round]).unwrap();
        }
        store.history(newest).unwrap().concat()
    }

    #[test]
    fn a_short_history_is_read_as_a_whole() {
        assert_eq!(rounds(0..7, 10), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(rounds(0..7, 4), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(rounds([], 4), [0; 0]);
    }

    #[test]
    fn of_a_long_history_the_newest_rounds_are_read_and_a_sample_of_the_others() {
        assert_eq!(rounds(0..14, 4), [0, 3, 6, 9, 10, 11, 12, 13]);
        assert_eq!(
            rounds((0..14).chain(90..94), 4),
            [1, 5, 9, 13, 90, 91, 92, 93]
        );
        assert!(rounds(0..200, 10).len() <= 20);
    }
}
