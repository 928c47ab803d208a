//! Decided rounds by number: full records of the newest, and the loss curve of all.
//!
//! A run may take months, so both are bounded: [`RECORDS_KEPT`] full records, [`POINTS_KEPT`]
//! points of the curve. Each record has the revision at which it last changed, so that a listener
//! receives only what it has not seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::snapshot::RoundRecord;

/// The most full records kept; the oldest are dropped first.
const RECORDS_KEPT: usize = 4096;

/// The most points of the loss curve kept; the oldest are dropped first.
const POINTS_KEPT: usize = 262_144;

/// About the most points of the loss curve in one answer; longer curves are thinned evenly.
const POINTS_SERVED: usize = 4096;

/// The decided rounds the dashboard remembers.
#[derive(Debug, Default)]
pub(crate) struct History {
    revision: u64,
    records: BTreeMap<u64, Entry>,
    curve: BTreeMap<u64, Point>,
}

#[derive(Debug)]
struct Entry {
    revision: u64,
    record: Arc<RoundRecord>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    heldout: Option<f64>,
    train: Option<f64>,
    tokens: u64,
}

/// The loss over all rounds, as columns of equal length.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Curve {
    /// Round numbers, ascending.
    pub round: Vec<u64>,
    /// Held-out loss after each round, in nats per byte.
    pub heldout_nats_per_byte: Vec<Option<f64>>,
    /// This node's training loss in each round, in nats per byte.
    pub train_nats_per_byte: Vec<Option<f64>>,
    /// Tokens from the start of the run to the end of each round.
    pub tokens: Vec<u64>,
}

/// What inserting a record changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The round was not known before.
    New,
    /// The record of a known round changed.
    Updated,
    /// Nothing: the record was known already, or is too old to keep.
    Nothing,
}

impl History {
    /// Clears everything, and raises the revision so that listeners notice.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.curve.clear();
        self.revision += 1;
    }

    /// The revision of the latest change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Adds or replaces a record.
    pub(crate) fn insert(&mut self, record: RoundRecord) -> Change {
        let number = record.round;
        if self.is_too_old(number) {
            return Change::Nothing;
        }
        let change = match self.records.get(&number) {
            Some(known) if *known.record == record => return Change::Nothing,
            Some(_) => Change::Updated,
            None => Change::New,
        };
        self.revision += 1;
        self.curve.insert(
            number,
            Point {
                heldout: record.heldout_nats_per_byte,
                train: record.train_nats_per_byte,
                tokens: record.tokens,
            },
        );
        self.records.insert(
            number,
            Entry {
                revision: self.revision,
                record: Arc::new(record),
            },
        );
        if self.records.len() > RECORDS_KEPT {
            self.records.pop_first();
        }
        if self.curve.len() > POINTS_KEPT {
            self.curve.pop_first();
        }
        change
    }

    /// Whether the history is full and would drop this round at once.
    fn is_too_old(&self, round: u64) -> bool {
        self.records.len() >= RECORDS_KEPT
            && self
                .records
                .first_key_value()
                .is_some_and(|(oldest, _)| round < *oldest)
    }

    /// The newest `count` records, ascending.
    pub(crate) fn newest(&self, count: usize) -> Vec<Arc<RoundRecord>> {
        self.before(u64::MAX, count)
    }

    /// The newest `count` records of rounds before `round`, ascending.
    pub(crate) fn before(&self, round: u64, count: usize) -> Vec<Arc<RoundRecord>> {
        let newest = self.records.range(..round).rev().take(count);
        let mut records: Vec<_> = newest.map(|(_, entry)| entry.record.clone()).collect();
        records.reverse();
        records
    }

    /// The oldest `count` records of rounds from `round` on, ascending.
    pub(crate) fn from(&self, round: u64, count: usize) -> Vec<Arc<RoundRecord>> {
        self.records
            .range(round..)
            .take(count)
            .map(|(_, entry)| entry.record.clone())
            .collect()
    }

    /// The newest `count` of the records that changed after `revision`, ascending.
    pub(crate) fn changed_after(&self, revision: u64, count: usize) -> Vec<Arc<RoundRecord>> {
        let changed = self
            .records
            .values()
            .rev()
            .filter(|entry| entry.revision > revision);
        let mut records: Vec<_> = changed
            .take(count)
            .map(|entry| entry.record.clone())
            .collect();
        records.reverse();
        records
    }

    /// The loss curve, thinned evenly to about [`POINTS_SERVED`] points. Keeps the first and the
    /// last.
    pub(crate) fn curve(&self) -> Curve {
        let stride = self.curve.len().div_ceil(POINTS_SERVED).max(1);
        let last = self.curve.len().saturating_sub(1);
        let mut columns = Curve::default();
        for (index, (round, point)) in self.curve.iter().enumerate() {
            if index % stride == 0 || index == last {
                columns.round.push(*round);
                columns.heldout_nats_per_byte.push(point.heldout);
                columns.train_nats_per_byte.push(point.train);
                columns.tokens.push(point.tokens);
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(round: u64) -> RoundRecord {
        RoundRecord {
            round,
            heldout_nats_per_byte: Some(5.0 / (round + 1) as f64),
            tokens: 100 * round,
            ..RoundRecord::default()
        }
    }

    fn numbers(records: &[Arc<RoundRecord>]) -> Vec<u64> {
        records.iter().map(|record| record.round).collect()
    }

    #[test]
    fn the_same_record_again_changes_nothing() {
        let mut history = History::default();
        assert_eq!(history.insert(record(3)), Change::New);
        let revision = history.revision();
        assert_eq!(history.insert(record(3)), Change::Nothing);
        assert_eq!(history.revision(), revision);
    }

    #[test]
    fn a_record_whose_loss_becomes_known_is_sent_again() {
        let mut history = History::default();
        history.insert(RoundRecord {
            heldout_nats_per_byte: None,
            ..record(0)
        });
        history.insert(record(1));
        let seen = history.revision();
        assert_eq!(history.insert(record(0)), Change::Updated);
        assert_eq!(numbers(&history.changed_after(seen, 10)), [0]);
        assert_eq!(
            history.curve().heldout_nats_per_byte,
            [Some(5.0), Some(2.5)]
        );
    }

    #[test]
    fn pages_are_ascending_and_do_not_overlap() {
        let mut history = History::default();
        for round in 0..10 {
            history.insert(record(round));
        }
        assert_eq!(numbers(&history.newest(4)), [6, 7, 8, 9]);
        assert_eq!(numbers(&history.before(6, 4)), [2, 3, 4, 5]);
        assert_eq!(numbers(&history.from(8, 4)), [8, 9]);
    }

    #[test]
    fn old_records_are_dropped_but_their_curve_stays() {
        let mut history = History::default();
        let rounds = RECORDS_KEPT as u64 + 10;
        for round in 0..rounds {
            history.insert(record(round));
        }
        assert_eq!(history.from(0, 1)[0].round, 10);
        assert_eq!(history.curve.len(), RECORDS_KEPT + 10);
        let revision = history.revision();
        assert_eq!(history.insert(record(2)), Change::Nothing);
        assert_eq!(history.revision(), revision);
    }

    #[test]
    fn a_long_curve_is_thinned_and_keeps_both_ends() {
        let mut history = History::default();
        let rounds = 3 * POINTS_SERVED as u64;
        for round in 0..rounds {
            history.insert(record(round));
        }
        let curve = history.curve();
        assert!(curve.round.len() <= POINTS_SERVED + 1);
        assert_eq!(curve.round.first(), Some(&0));
        assert_eq!(curve.round.last(), Some(&(rounds - 1)));
        assert_eq!(curve.tokens.len(), curve.round.len());
    }
}
