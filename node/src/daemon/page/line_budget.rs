//! How many lines of the log strangers may cause.

use std::time::Instant;

/// Lines at once.
const AT_ONCE: f64 = 40.0;
/// Lines per second in the long run: two a minute.
const PER_SECOND: f64 = 1.0 / 30.0;

/// A budget of lines that refills with time.
#[derive(Debug)]
pub(super) struct LineBudget {
    left: f64,
    since: Instant,
    /// Lines left out since the last one.
    left_out: u64,
}

impl LineBudget {
    /// A full budget.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: AT_ONCE,
            since: now,
            left_out: 0,
        }
    }

    /// Whether there is room for a line. Returns how many were left out before it.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.left = (self.left + seconds * PER_SECOND).min(AT_ONCE);
        self.since = now;
        if self.left < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_lines_becomes_a_few_and_a_count() {
        let start = Instant::now();
        let mut budget = LineBudget::new(start);
        let lines = (0..10_000).filter(|line| {
            let now = start + Duration::from_millis(*line);
            budget.take(now).is_some()
        });
        assert_eq!(lines.count(), 40);
        let later = start + Duration::from_secs(100);
        assert_eq!(budget.take(later), Some(9960));
        assert_eq!(budget.take(later), Some(0));
    }
}
