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
        let enough = self.has_one(now);
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// Whether there is a token.
    pub(crate) fn has_one(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= 1.0
    }

    /// Takes tokens for something whose cost is known only now. What is missing is owed.
    pub(crate) fn spend(&mut self, tokens: f64, now: Instant) {
        self.refill(now);
        self.left -= tokens;
    }

    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.left = (self.left + seconds * self.per_second).min(self.capacity);
        self.since = now;
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

    #[test]
    fn what_is_owed_must_be_earned_first() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(10.0, 2.0, start);
        bucket.spend(30.0, start);
        assert!(!bucket.has_one(start + Duration::from_secs(10)));
        assert!(bucket.has_one(start + Duration::from_millis(10_500)));
    }
}
