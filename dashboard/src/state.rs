//! The handle to which the node publishes, and from which every request reads.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, watch};

use crate::history::{Change, Curve, History};
use crate::metrics::Metrics;
use crate::snapshot::{EVENTS_KEPT, RoundRecord, Snapshot};

/// Decided rounds in `/api/status` and in the first event of a stream.
const RECENT_ROUNDS: usize = 64;

/// The most event streams open at once. Further ones are refused and counted.
pub const STREAMS_MAX: usize = 64;

/// The dashboard of one node. Cloning is cheap, and all clones share the same state.
#[derive(Debug, Clone)]
pub struct Dashboard {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// The number of snapshots published so far; a change wakes every event stream.
    published: watch::Sender<u64>,
    /// True once the server shuts down. Event streams end then; otherwise they would keep it open.
    closed: watch::Sender<bool>,
    streams: Arc<Semaphore>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    /// The latest snapshot, without its records, which are in `history`.
    snapshot: Option<Arc<Snapshot>>,
    history: History,
}

/// What a listener has not seen yet.
#[derive(Debug, Clone)]
pub(crate) struct News {
    /// The latest snapshot, without records.
    pub snapshot: Arc<Snapshot>,
    /// Records that are new to this listener, ascending.
    pub records: Vec<Arc<RoundRecord>>,
    /// Whether older records were left out, so that the listener should fetch the curve again.
    pub skipped: bool,
    /// The revision to pass in the next call.
    pub revision: u64,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Dashboard {
    /// A dashboard with nothing to show yet.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: RwLock::default(),
                published: watch::Sender::new(0),
                closed: watch::Sender::new(false),
                streams: Arc::new(Semaphore::new(STREAMS_MAX)),
                metrics: Metrics::new(),
            }),
        }
    }

    /// Shows this snapshot from now on, and adds its records to the history.
    ///
    /// Never waits for a browser, so call it on every change; streams send at most four events a
    /// second. A snapshot of another run clears the history.
    pub fn publish(&self, mut snapshot: Snapshot) {
        if snapshot.unix_ms == 0 {
            snapshot.unix_ms = unix_ms();
        }
        let surplus = snapshot.events.len().saturating_sub(EVENTS_KEPT);
        snapshot.events.drain(..surplus);
        let records = std::mem::take(&mut snapshot.history);
        {
            let mut state = self.write();
            if state
                .snapshot
                .as_ref()
                .is_some_and(|last| last.run.id != snapshot.run.id)
            {
                state.history.clear();
            }
            for record in records {
                let seen = record.clone();
                if state.history.insert(record) == Change::New {
                    self.shared.metrics.round_decided(&seen);
                }
            }
            if let Some(newest) = state.history.newest(1).first() {
                self.shared.metrics.newest_round(newest);
            }
            self.shared.metrics.update(&snapshot);
            state.snapshot = Some(Arc::new(snapshot));
        }
        self.shared.published.send_modify(|count| *count += 1);
    }

    /// The latest snapshot with the newest 64 records. Before the first is published, the default
    /// one.
    pub fn status(&self) -> Snapshot {
        let (snapshot, records) = {
            let state = self.read();
            (state.snapshot.clone(), state.history.newest(RECENT_ROUNDS))
        };
        let mut status = snapshot.map_or_else(Snapshot::default, |snapshot| (*snapshot).clone());
        status.history = records.iter().map(|record| (**record).clone()).collect();
        status
    }

    /// Ends all event streams, so that the server can shut down.
    pub fn close(&self) {
        self.shared.closed.send_replace(true);
    }

    /// The latest snapshot and its age; none before the first one.
    pub(crate) fn latest(&self) -> Option<(Arc<Snapshot>, Duration)> {
        let snapshot = self.read().snapshot.clone()?;
        let age = Duration::from_millis(unix_ms().saturating_sub(snapshot.unix_ms));
        Some((snapshot, age))
    }

    /// What to send to a listener that has seen `revision` (none if it has seen nothing); none
    /// before the first snapshot.
    pub(crate) fn news(&self, revision: Option<u64>) -> Option<News> {
        let state = self.read();
        let mut records = match revision {
            Some(seen) => state.history.changed_after(seen, RECENT_ROUNDS + 1),
            None => state.history.newest(RECENT_ROUNDS),
        };
        let skipped = records.len() > RECENT_ROUNDS;
        records.drain(..usize::from(skipped));
        Some(News {
            snapshot: state.snapshot.clone()?,
            records,
            skipped,
            revision: state.history.revision(),
        })
    }

    pub(crate) fn curve(&self) -> Curve {
        self.read().history.curve()
    }

    pub(crate) fn records_from(&self, round: u64, count: usize) -> Vec<Arc<RoundRecord>> {
        self.read().history.from(round, count)
    }

    pub(crate) fn records_before(&self, round: u64, count: usize) -> Vec<Arc<RoundRecord>> {
        self.read().history.before(round, count)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn published(&self) -> watch::Receiver<u64> {
        self.shared.published.subscribe()
    }

    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.shared.closed.subscribe()
    }

    pub(crate) fn streams(&self) -> Arc<Semaphore> {
        self.shared.streams.clone()
    }

    /// Ignores poisoning: a panic while publishing leaves at worst a partly updated snapshot, which
    /// is still worth showing.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared
            .state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.shared
            .state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The current time by this machine's clock, in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{LogLine, Run};

    fn snapshot(run: &str, rounds: std::ops::Range<u64>) -> Snapshot {
        Snapshot {
            run: Run {
                id: run.into(),
                ..Run::default()
            },
            history: rounds
                .map(|round| RoundRecord {
                    round,
                    ..RoundRecord::default()
                })
                .collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_listener_receives_each_record_once() {
        let dashboard = Dashboard::new();
        assert!(dashboard.news(None).is_none());
        dashboard.publish(snapshot("aa", 0..2));
        let first = dashboard.news(None).unwrap();
        assert_eq!(first.records.len(), 2);
        dashboard.publish(snapshot("aa", 0..3));
        let second = dashboard.news(Some(first.revision)).unwrap();
        assert_eq!(second.records.len(), 1);
        assert_eq!(second.records[0].round, 2);
    }

    #[test]
    fn a_listener_that_misses_records_is_told_so() {
        let dashboard = Dashboard::new();
        dashboard.publish(snapshot("aa", 0..1));
        let seen = dashboard.news(None).unwrap().revision;
        let many = RECENT_ROUNDS as u64 + 2;
        dashboard.publish(snapshot("aa", 0..many));
        let news = dashboard.news(Some(seen)).unwrap();
        assert!(news.skipped);
        assert_eq!(news.records.len(), RECENT_ROUNDS);
        assert_eq!(news.records.last().unwrap().round, many - 1);
        assert!(!dashboard.news(Some(news.revision)).unwrap().skipped);
    }

    #[test]
    fn another_run_clears_the_history() {
        let dashboard = Dashboard::new();
        dashboard.publish(snapshot("aa", 0..5));
        dashboard.publish(snapshot("bb", 0..1));
        assert_eq!(dashboard.status().history.len(), 1);
    }

    #[test]
    fn only_the_last_log_lines_are_kept() {
        let dashboard = Dashboard::new();
        let events = (0..EVENTS_KEPT as u64 + 5)
            .map(|unix_ms| LogLine {
                unix_ms,
                ..LogLine::default()
            })
            .collect();
        dashboard.publish(Snapshot {
            events,
            ..Snapshot::default()
        });
        let kept = dashboard.status().events;
        assert_eq!(kept.len(), EVENTS_KEPT);
        assert_eq!(kept[0].unix_ms, 5);
    }
}
