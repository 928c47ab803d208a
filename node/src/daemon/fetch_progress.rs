//! How far a fetch of weights is, for the page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weal_proto::RoundNumber;
use weal_trainer::format_bytes;

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

    /// Bytes that are here, and all.
    fn bytes(&self) -> Option<(u64, u64)> {
        let running = self.lock();
        let running = running.as_ref()?;
        let fetched = running.fetched.iter();
        let fetched: u64 = fetched.map(|bytes| bytes.load(Ordering::Relaxed)).sum();
        let here = running.kept.saturating_add(fetched).min(running.all);
        Some((here, running.all))
    }

    /// What to tell people while a fetch is running.
    pub(super) fn message(&self) -> Option<String> {
        let (here, all) = self.bytes()?;
        let round = self.lock().as_ref()?.round;
        Some(format!(
            "fetching the weights of round {round}: {} of {}",
            format_bytes(here),
            format_bytes(all)
        ))
    }
}

/// A fetch that the page shows.
pub(super) struct ShownFetch(FetchProgress);

impl ShownFetch {
    /// Bytes that are here.
    pub(super) fn here(&self) -> u64 {
        self.0.bytes().map_or(0, |(here, _)| here)
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
    fn a_fetch_is_told_in_bytes_while_it_lasts() {
        let progress = FetchProgress::default();
        assert_eq!(progress.message(), None);
        let counters = vec![Arc::<AtomicU64>::default(), Arc::default()];
        let shown = progress.begin(RoundNumber(32), (1_000_000, 4_000_000), counters.clone());
        counters[0].store(1_500_000, Ordering::Relaxed);
        counters[1].store(500_000, Ordering::Relaxed);
        assert_eq!(shown.here(), 3_000_000);
        assert_eq!(
            progress.message().unwrap(),
            "fetching the weights of round 32: 3.0 MB of 4.0 MB"
        );
        drop(shown);
        assert_eq!(progress.message(), None);
    }
}
