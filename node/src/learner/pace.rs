//! How long this node takes, so that its contribution is in time: a slow machine takes the steps it
//! can.

use std::time::{Duration, Instant};

/// What this node measured of its rounds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// From the last step to a contribution that is stored; `None` before the first one.
    finishing: Option<Duration>,
}

impl Pace {
    /// Whether another step, as long as the last one, leaves too little time to have a contribution
    /// stored by `deadline`.
    pub(super) fn is_time_up(&self, now: Instant, last_step: Duration, deadline: Instant) -> bool {
        // Not measured yet, it counts as long as a step: both grow with the model.
        let finishing = self.finishing.unwrap_or(last_step);
        now + last_step + finishing > deadline
    }

    /// A contribution was stored this long after the last step. A longer time counts at once. A
    /// shorter one counts half, because disks are fast one time and slow the next.
    pub(super) fn has_finished(&mut self, took: Duration) {
        let before = self.finishing.unwrap_or(took);
        self.finishing = Some(took.max((before + took) / 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_step_that_would_make_the_contribution_late_is_not_taken() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert!(!pace.is_time_up(now, 5 * SECOND, now + 10 * SECOND));
        assert!(pace.is_time_up(now, 5 * SECOND, now + 9 * SECOND));
        pace.has_finished(20 * SECOND);
        assert!(!pace.is_time_up(now, 5 * SECOND, now + 25 * SECOND));
        assert!(pace.is_time_up(now, 5 * SECOND, now + 24 * SECOND));
        // After the deadline, too.
        assert!(pace.is_time_up(now + SECOND, Duration::ZERO, now));
    }

    #[test]
    fn a_slow_disk_counts_at_once_and_a_fast_one_by_and_by() {
        let mut pace = Pace::default();
        let finishing = |pace: &Pace| pace.finishing.unwrap().as_secs();
        for (took, expected) in [(4, 4), (12, 12), (4, 8), (4, 6), (20, 20)] {
            pace.has_finished(took * SECOND);
            assert_eq!(finishing(&pace), expected);
        }
    }
}
