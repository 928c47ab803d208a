//! A budget that refills with time.

use std::time::Instant;

/// Tokens: at most `capacity`, and `per_second` more each second.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    capacity: f64,
    per_second: f64,
    left: f64,
    since: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn full(capacity: f64, per_second: f64, now: Instant) -> Self {
        Self {
            capacity,
            per_second,
            left: capacity,
            since: now,
        }
    }

    /// Takes one token. Returns `false` if there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.left = (self.left + seconds * self.per_second).min(self.capacity);
        self.since = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// Whether nothing was taken for so long that the bucket is full.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.left + seconds * self.per_second >= self.capacity
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_is_emptied_and_refills() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(3.0, 2.0, start);
        let mut take = |seconds| {
            let now = start + Duration::from_secs(seconds);
            std::iter::repeat_with(|| bucket.take(now))
                .take_while(|taken| *taken)
                .count()
        };
        assert_eq!([take(0), take(1), take(2), take(60)], [3, 2, 2, 3]);
        assert!(!bucket.is_full(start + Duration::from_secs(61)));
        assert!(bucket.is_full(start + Duration::from_secs(62)));
    }
}
