//! A cap on bytes a second, kept exactly: over any length of time no more passes than the cap
//! allows, and [`BURST`].

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// Idle time that is not lost: so much of the cap may pass at once.
const BURST: Duration = Duration::from_millis(100);
/// A piece is so much of a second's bytes, so that many streams share a low cap without any of them
/// standing still.
const PIECES_A_SECOND: u64 = 32;
const SMALLEST_PIECE: u64 = 1024;
const LARGEST_PIECE: u64 = 64 * 1024;

/// Lets bytes pass at a given rate, over all streams that share it, in the order in which they ask.
#[derive(Debug)]
pub(super) struct RateLimit {
    bytes_a_second: NonZeroU64,
    /// When all that was let pass will have passed.
    free_at: Mutex<Instant>,
}

impl RateLimit {
    pub(super) fn new(bytes_a_second: NonZeroU64) -> Self {
        Self {
            bytes_a_second,
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// How many bytes to pass at once.
    pub(super) fn piece(&self) -> usize {
        (self.bytes_a_second.get() / PIECES_A_SECOND).clamp(SMALLEST_PIECE, LARGEST_PIECE) as usize
    }

    /// Waits until the bytes may pass.
    pub(super) async fn pass(&self, bytes: usize) {
        let passed = self.reserve(bytes, Instant::now());
        sleep_until(passed.into()).await;
    }

    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_a_second.get() as f64);
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
    fn no_more_passes_than_the_cap_however_many_ask() {
        let limit = RateLimit::new(NonZeroU64::new(1000).unwrap());
        let start = *limit.free_at.lock().unwrap();
        let mut last = start;
        for _ in 0..100 {
            last = limit.reserve(100, start);
        }
        assert_eq!(last.duration_since(start), Duration::from_secs(10));
    }

    #[test]
    fn idle_time_is_lost_but_for_a_moment() {
        let limit = RateLimit::new(NonZeroU64::new(1000).unwrap());
        let later = *limit.free_at.lock().unwrap() + Duration::from_secs(60);
        assert!(limit.reserve(100, later) <= later);
        assert_eq!(limit.reserve(1000, later), later + Duration::from_secs(1));
    }

    #[test]
    fn pieces_suit_the_cap() {
        let piece = |rate| RateLimit::new(NonZeroU64::new(rate).unwrap()).piece();
        assert_eq!(
            (piece(1), piece(320_000), piece(1 << 40)),
            (1024, 10_000, 65_536)
        );
    }
}
