//! A peer's clock: it begins anywhere at each start, and may run fast or slow.

use crate::interface::time::Millis;

const PPM: i128 = 1_000_000;

/// A peer's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    /// The virtual time at which the peer started.
    pub started: Millis,
    /// What the clock showed then.
    pub began_at: Millis,
    /// How much faster than virtual time it runs, in parts per million.
    pub drift_ppm: i32,
}

impl Clock {
    /// What the clock shows now.
    pub(super) fn reads(&self, now: Millis) -> Millis {
        let passed = i128::from(now.since(self.started)) * self.speed() / PPM;
        self.began_at
            .after(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The virtual time at which the clock shows `at`, or later.
    pub(super) fn when_it_reads(&self, at: Millis) -> Millis {
        let shown = i128::from(at.since(self.began_at)) * PPM;
        let passed = (shown + self.speed() - 1) / self.speed();
        self.started
            .after(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    fn speed(&self) -> i128 {
        (PPM + i128::from(self.drift_ppm)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_when_the_clock_shows_its_time() {
        for drift_ppm in [-20_000, -333, 0, 7, 50_000] {
            let clock = Clock {
                started: Millis(12_345),
                began_at: Millis(500_000),
                drift_ppm,
            };
            for at in (500_000..501_000).map(Millis) {
                let when = clock.when_it_reads(at);
                assert!(clock.reads(when) >= at, "{at:?} with {drift_ppm} ppm");
            }
        }
    }
}
