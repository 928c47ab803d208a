//! A rate limit in bytes per second: over any interval, no more bytes pass than the rate allows,
//! plus [`BURST`].

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// Unused time that may be made up for: this much of a second's bytes may pass at once.
const BURST: Duration = Duration::from_millis(100);
/// Pieces in a second's bytes. Small pieces let many streams share a low rate without any of them
/// stalling.
const PIECES_PER_SECOND: u64 = 32;
const SMALLEST_PIECE: u64 = 1024;
const LARGEST_PIECE: u64 = 64 * 1024;

/// Limits the rate of bytes over all streams that share it, first come, first served.
#[derive(Debug)]
pub(crate) struct RateLimit {
    bytes_per_second: NonZeroU64,
    /// When the bytes reserved so far have passed.
    free_at: Mutex<Instant>,
}

impl RateLimit {
    pub(crate) fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            bytes_per_second,
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// The number of bytes to pass at a time.
    pub(crate) fn piece(&self) -> usize {
        (self.bytes_per_second.get() / PIECES_PER_SECOND).clamp(SMALLEST_PIECE, LARGEST_PIECE)
            as usize
    }

    /// Waits until `bytes` may pass.
    pub(crate) async fn pass(&self, bytes: usize) {
        let passed = self.reserve(bytes, Instant::now());
        sleep_until(passed.into()).await;
    }

    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let from = now
            .checked_sub(BURST)
            .map_or(*free_at, |earliest| earliest.max(*free_at));
        *free_at = from + takes;
        *free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_bytes_pass_than_the_rate_allows_whatever_the_demand() {
        let limit = RateLimit::new(NonZeroU64::new(1000).unwrap());
        let start = *limit.free_at.lock().unwrap();
        let mut last = start;
        for _ in 0..100 {
            last = limit.reserve(100, start);
        }
        assert_eq!(last.duration_since(start), Duration::from_secs(10));
    }

    #[test]
    fn only_a_moment_of_idle_time_is_made_up_for() {
        let limit = RateLimit::new(NonZeroU64::new(1000).unwrap());
        let later = *limit.free_at.lock().unwrap() + Duration::from_secs(60);
        assert!(limit.reserve(100, later) <= later);
        assert_eq!(limit.reserve(1000, later), later + Duration::from_secs(1));
    }

    #[test]
    fn pieces_grow_with_the_rate() {
        let piece = |rate| RateLimit::new(NonZeroU64::new(rate).unwrap()).piece();
        assert_eq!(
            (piece(1), piece(320_000), piece(1 << 40)),
            (1024, 10_000, 65_536)
        );
    }
}
