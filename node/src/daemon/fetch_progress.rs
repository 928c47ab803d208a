//! How far a fetch of weights is, for the page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weal_dashboard::Fetch;
use weal_proto::RoundNumber;

/// The fetch that is running, if there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct FetchProgress(Arc<Mutex<Option<Running>>>);

#[derive(Debug)]
struct Running {
    round: RoundNumber,
    /// Bytes of all weights.
    all: u64,
    /// Bytes that were here when the fetch began.
    kept: u64,
    /// Bytes of each tensor that is fetched, as far as they are here.
    fetched: Vec<Arc<AtomicU64>>,
}

impl FetchProgress {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fetch begins. It ends when the value returned is dropped. `tensors` count the bytes of
    /// those that are missing.
    pub(super) fn begin(
        &self,
        round: RoundNumber,
        (kept, all): (u64, u64),
        fetched: Vec<Arc<AtomicU64>>,
    ) -> ShownFetch {
        *self.lock() = Some(Running {
            round,
            all,
            kept,
            fetched,
        });
        ShownFetch(self.clone())
    }

    /// What the page shows while a fetch is running.
    pub(super) fn shown(&self) -> Option<Fetch> {
        let running = self.lock();
        let running = running.as_ref()?;
        let fetched = running.fetched.iter();
        let fetched: u64 = fetched.map(|bytes| bytes.load(Ordering::Relaxed)).sum();
        Some(Fetch {
            what: format!("weights of round {}", running.round),
            bytes_done: running.kept.saturating_add(fetched).min(running.all),
            bytes: running.all,
        })
    }
}

/// A fetch that the page shows.
pub(super) struct ShownFetch(FetchProgress);

impl ShownFetch {
    /// Bytes that are here.
    pub(super) fn here(&self) -> u64 {
        self.0.shown().map_or(0, |fetch| fetch.bytes_done)
    }
}

impl Drop for ShownFetch {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_is_shown_in_bytes_while_it_lasts() {
        let progress = FetchProgress::default();
        assert_eq!(progress.shown(), None);
        let counters = vec![Arc::<AtomicU64>::default(), Arc::default()];
        let shown = progress.begin(RoundNumber(32), (1_000_000, 4_000_000), counters.clone());
        counters[0].store(1_500_000, Ordering::Relaxed);
        counters[1].store(500_000, Ordering::Relaxed);
        assert_eq!(shown.here(), 3_000_000);
        let fetch = Fetch {
            what: "weights of round 32".into(),
            bytes_done: 3_000_000,
            bytes: 4_000_000,
        };
        assert_eq!(progress.shown(), Some(fetch));
        drop(shown);
        assert_eq!(progress.shown(), None);
    }
}
