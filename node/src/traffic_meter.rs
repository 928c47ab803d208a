//! Bytes sent and received in a calendar month (UTC), and the limits on them.
//!
//! The count survives restarts in a small file. It is written once a minute, and whenever a
//! hundredth of a limit was used since, so that even a killed node forgets little.
//!
//! The node stops exchanging blobs when it has used [`BLOBS_SHARE`] of a limit. The rest is for the
//! messages with which it votes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use weal_files::Access;
use weal_network::{ByteCount, Network, TrafficLeft};
use weal_trainer::format_bytes;

use crate::folder::Folder;
use crate::settings::NetworkSettings;
use crate::utc_month::Month;

/// Percent of a limit that blobs may use.
const BLOBS_SHARE: u64 = 95;
/// Time between two looks at the counters.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Time between two writes.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// The bytes of one month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    month: Month,
    sent: u64,
    received: u64,
}

/// Limits for a month, in bytes; 0 means none.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    sent: u64,
    received: u64,
}

/// What was used of this month's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MonthlyUse {
    pub month: Month,
    pub sent: u64,
    pub received: u64,
    /// 0 means no limit.
    pub most_sent: u64,
    pub most_received: u64,
}

impl MonthlyUse {
    /// Whether contributions of this node can no longer reach others, or the other way round.
    pub(crate) fn is_used_up(&self) -> bool {
        is_used_up(self.sent, self.most_sent) || is_used_up(self.received, self.most_received)
    }

    /// What to tell people once a limit is used up.
    pub(crate) fn message(&self) -> Option<String> {
        let (what, used, most) = if is_used_up(self.sent, self.most_sent) {
            ("sent", self.sent, self.most_sent)
        } else if is_used_up(self.received, self.most_received) {
            ("received", self.received, self.most_received)
        } else {
            return None;
        };
        Some(format!(
            "{what} {} of {} allowed in {}: this node neither trains nor exchanges contributions \
             and weights until {}, but keeps voting",
            format_bytes(used),
            format_bytes(most),
            self.month,
            self.month.next().first_day(),
        ))
    }
}

fn is_used_up(used: u64, most: u64) -> bool {
    for_blobs(most).is_some_and(|until| used >= until)
}

/// The bytes of a limit that blobs may use.
fn for_blobs(most: u64) -> Option<u64> {
    (most > 0).then(|| most / 100 * BLOBS_SHARE + most % 100 * BLOBS_SHARE / 100)
}

/// The count of the month, without clock or disk.
#[derive(Debug)]
struct Count {
    limits: Limits,
    used: Used,
    /// What the network had counted when this last looked.
    seen: ByteCount,
    saved: Used,
    saved_at: Instant,
}

impl Count {
    /// Continues an earlier count, if it is of this month.
    fn new(limits: Limits, earlier: Option<Used>, month: Month, now: Instant) -> Self {
        let nothing = Used {
            month,
            sent: 0,
            received: 0,
        };
        let used = earlier.filter(|used| used.month == month);
        let used = used.unwrap_or(nothing);
        Self {
            limits,
            used,
            seen: ByteCount::default(),
            saved: used,
            saved_at: now,
        }
    }

    /// Takes what the network has counted since it started. Returns whether a new month began.
    fn add(&mut self, total: ByteCount, month: Month) -> bool {
        let is_new = month != self.used.month;
        if is_new {
            self.used = Used {
                month,
                sent: 0,
                received: 0,
            };
        }
        let since = |total: u64, seen: u64| total.saturating_sub(seen);
        let (sent, received) = (&mut self.used.sent, &mut self.used.received);
        *sent = sent.saturating_add(since(total.sent, self.seen.sent));
        *received = received.saturating_add(since(total.received, self.seen.received));
        self.seen = total;
        is_new
    }

    /// What blobs may still use.
    fn left(&self) -> TrafficLeft {
        let left = |most, used| for_blobs(most).map(|until| until.saturating_sub(used));
        TrafficLeft {
            sent: left(self.limits.sent, self.used.sent),
            received: left(self.limits.received, self.used.received),
        }
    }

    /// What to save now, if it is time.
    fn due(&mut self, now: Instant) -> Option<Used> {
        let (used, saved) = (self.used, self.saved);
        let is_late = now.saturating_duration_since(self.saved_at) >= SAVE_EVERY;
        let much =
            |most: u64, used: u64, saved: u64| most > 0 && used.saturating_sub(saved) > most / 100;
        let is_much = much(self.limits.sent, used.sent, saved.sent)
            || much(self.limits.received, used.received, saved.received);
        (used != saved && (is_late || is_much)).then(|| self.save(now))
    }

    fn save(&mut self, now: Instant) -> Used {
        self.saved = self.used;
        self.saved_at = now;
        self.used
    }

    fn monthly_use(&self) -> MonthlyUse {
        MonthlyUse {
            month: self.used.month,
            sent: self.used.sent,
            received: self.used.received,
            most_sent: self.limits.sent,
            most_received: self.limits.received,
        }
    }
}

/// The count of this month, from the file of a folder.
pub(crate) struct MonthlyTraffic {
    path: PathBuf,
    count: Count,
    /// Whether the last write failed.
    failed: bool,
}

impl MonthlyTraffic {
    /// Continues the count of a folder.
    pub(crate) fn open(folder: &Folder, settings: &NetworkSettings) -> Self {
        let path = folder.traffic();
        let limits = Limits {
            sent: settings.max_upload_per_month.0,
            received: settings.max_download_per_month.0,
        };
        let earlier = read(&path);
        Self {
            count: Count::new(limits, earlier, Month::now(), Instant::now()),
            path,
            failed: false,
        }
    }

    /// What blobs may still use.
    pub(crate) fn left(&self) -> TrafficLeft {
        self.count.left()
    }

    fn write(&mut self, used: Used) {
        let bytes = serde_json::to_vec(&used).map_err(io::Error::other);
        let written = bytes.map_err(|error| error.to_string()).and_then(|bytes| {
            let written = weal_files::write(&self.path, Access::Owner, &bytes);
            written.map_err(|error| error.to_string())
        });
        // Said once: the disk may be full for days.
        if let (Err(error), false) = (&written, self.failed) {
            tracing::warn!("the bytes of this month cannot be saved: {error}");
        }
        self.failed = written.is_err();
    }
}

/// An earlier count. A damaged file counts as none: the node says so, and goes on.
fn read(path: &Path) -> Option<Used> {
    let bytes = std::fs::read(path).ok()?;
    let used = serde_json::from_slice(&bytes);
    used.inspect_err(|error| {
        tracing::warn!(
            "{} is damaged, the month's bytes are counted from 0: {error}",
            path.display()
        );
    })
    .ok()
}

/// Counts the bytes of a network, and tells it what it may still use when a month begins.
pub(crate) struct TrafficMeter {
    traffic: Arc<Mutex<MonthlyTraffic>>,
    network: Network,
    task: JoinHandle<()>,
}

impl TrafficMeter {
    /// Counts from now on. The network must have been started with [`MonthlyTraffic::left`].
    pub(crate) fn start(traffic: MonthlyTraffic, network: Network) -> Self {
        let traffic = Arc::new(Mutex::new(traffic));
        let (counted, of) = (Arc::clone(&traffic), network.clone());
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(COUNT_EVERY);
            loop {
                tick.tick().await;
                let due = count(&mut locked(&counted), &of);
                if let Some(used) = due {
                    let counted = Arc::clone(&counted);
                    let write = move || locked(&counted).write(used);
                    let _ = tokio::task::spawn_blocking(write).await;
                }
            }
        });
        Self {
            traffic,
            network,
            task,
        }
    }

    /// What was used until now.
    pub(crate) fn monthly_use(&self) -> MonthlyUse {
        locked(&self.traffic).count.monthly_use()
    }

    /// Counts and saves a last time.
    pub(crate) fn finish(&self) {
        self.task.abort();
        let mut traffic = locked(&self.traffic);
        count(&mut traffic, &self.network);
        let used = traffic.count.save(Instant::now());
        traffic.write(used);
    }
}

impl Drop for TrafficMeter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns what to save, if it is time.
fn count(traffic: &mut MonthlyTraffic, network: &Network) -> Option<Used> {
    let total = network.status().borrow().on_the_wire;
    if traffic.count.add(total, Month::now()) {
        network.set_traffic_left(traffic.left());
    }
    traffic.count.due(Instant::now())
}

fn locked(traffic: &Mutex<MonthlyTraffic>) -> MutexGuard<'_, MonthlyTraffic> {
    traffic.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn month(month: u8) -> Month {
        Month { year: 2026, month }
    }

    fn limits() -> Limits {
        Limits {
            sent: 10 * GB,
            received: 0,
        }
    }

    fn total(sent: u64, received: u64) -> ByteCount {
        ByteCount { received, sent }
    }

    #[test]
    fn bytes_add_up_over_restarts_until_the_month_ends() {
        let now = Instant::now();
        let mut count = Count::new(limits(), None, month(11), now);
        assert!(!count.add(total(4 * GB, GB), month(11)));
        let saved = count.save(now);
        // The node starts again: the network counts from 0.
        let mut count = Count::new(limits(), Some(saved), month(11), now);
        assert!(!count.add(total(5 * GB, GB), month(11)));
        assert_eq!((count.used.sent, count.used.received), (9 * GB, 2 * GB));
        assert_eq!(count.left().sent, Some(GB / 2));
        assert!(count.monthly_use().message().is_none());
        count.add(total(5 * GB + GB / 2, GB), month(11));
        assert_eq!(count.left().sent, Some(0));
        let message = count.monthly_use().message().unwrap();
        assert!(
            message.contains("2026-12-01") && message.contains("sent"),
            "{message}"
        );
        assert!(count.add(total(6 * GB, GB), month(12)), "a new month");
        assert_eq!(count.used.sent, GB / 2, "only what came since");
        assert!(!count.monthly_use().is_used_up());
    }

    #[test]
    fn a_count_of_another_month_is_forgotten() {
        let used = Used {
            month: month(10),
            sent: 9 * GB,
            received: 0,
        };
        let count = Count::new(limits(), Some(used), month(11), Instant::now());
        assert_eq!(count.used.sent, 0);
    }

    #[test]
    fn without_limits_everything_is_counted_and_nothing_stops() {
        let mut count = Count::new(Limits::default(), None, month(11), Instant::now());
        count.add(total(u64::MAX, u64::MAX), month(11));
        count.add(total(u64::MAX, u64::MAX), month(11));
        assert_eq!(count.left(), TrafficLeft::default());
        assert!(count.monthly_use().message().is_none());
    }

    #[test]
    fn a_killed_node_forgets_little() {
        let start = Instant::now();
        let mut count = Count::new(limits(), None, month(11), start);
        assert_eq!(count.due(start + SAVE_EVERY), None, "nothing to save");
        count.add(total(GB / 20, 0), month(11));
        assert_eq!(count.due(start), None);
        count.add(total(GB / 5, 0), month(11));
        assert!(
            count.due(start).is_some(),
            "more than a hundredth of the limit"
        );
        count.add(total(GB / 5 + 1, 0), month(11));
        assert_eq!(count.due(start + SAVE_EVERY / 2), None);
        assert!(count.due(start + SAVE_EVERY).is_some());
    }

    #[test]
    fn the_file_is_read_back_and_a_damaged_one_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let settings = NetworkSettings {
            max_download_per_month: crate::settings::ByteCount(1000),
            ..NetworkSettings::default()
        };
        let mut traffic = MonthlyTraffic::open(&folder, &settings);
        assert_eq!(traffic.left().received, Some(950));
        traffic.count.add(total(7, 100), traffic.count.used.month);
        let used = traffic.count.save(Instant::now());
        traffic.write(used);
        let again = MonthlyTraffic::open(&folder, &settings);
        assert_eq!(again.left().received, Some(850));
        std::fs::write(folder.traffic(), "{").unwrap();
        let fresh = MonthlyTraffic::open(&folder, &settings);
        assert_eq!(fresh.left().received, Some(950));
    }
}
