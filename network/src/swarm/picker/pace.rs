//! How long pieces usually take, and when one is late.

use std::time::Duration;

use crate::swarm::limits::{LATE, LATE_AT_THE_END};

/// A moving average of what a piece takes.
#[derive(Debug, Default)]
pub(super) struct Pace(Option<Duration>);

impl Pace {
    pub(super) fn arrived(&mut self, took: Duration) {
        self.0 = Some(match self.0 {
            Some(usual) => (usual * 7 + took) / 8,
            None => took,
        });
    }

    /// After which time another peer may send a piece too. `at_the_end` every missing piece is on
    /// its way.
    pub(super) fn late_after(&self, at_the_end: bool) -> Duration {
        match self.0 {
            None => LATE,
            Some(usual) if at_the_end => LATE_AT_THE_END.max(usual * 2),
            Some(usual) => LATE.max(usual * 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_what_pieces_take_and_ends_sooner_at_the_end() {
        let mut pace = Pace::default();
        assert_eq!(pace.late_after(true), LATE);
        pace.arrived(Duration::from_millis(100));
        assert_eq!(pace.late_after(false), LATE);
        assert_eq!(pace.late_after(true), LATE_AT_THE_END);
        for _ in 0..100 {
            pace.arrived(Duration::from_secs(10));
        }
        assert!(pace.late_after(false) > Duration::from_secs(39));
        assert!(pace.late_after(true) < Duration::from_secs(21));
    }
}
