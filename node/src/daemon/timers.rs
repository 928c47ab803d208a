//! The core's timers and clock. The clock counts milliseconds since the process started.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weal_coordinator_free::{Millis, TimerId};

/// The clock, and the timers that are set.
#[derive(Debug)]
pub(super) struct Timers {
    origin: Instant,
    set: BTreeMap<TimerId, Instant>,
}

impl Timers {
    /// A clock that starts now, and no timers.
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            set: BTreeMap::new(),
        }
    }

    /// The core's time now.
    pub(super) fn now(&self) -> Millis {
        Millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The system's instant for one of the core's times.
    pub(super) fn instant(&self, at: Millis) -> Instant {
        // A time that the system's clock cannot express counts as tomorrow.
        let day = Duration::from_secs(86_400);
        self.origin
            .checked_add(Duration::from_millis(at.0))
            .unwrap_or_else(|| Instant::now() + day)
    }

    /// Sets a timer. It replaces one of the same name.
    pub(super) fn set(&mut self, id: TimerId, at: Millis) {
        let at = self.instant(at);
        self.set.insert(id, at);
    }

    /// Cancels a timer, if it is set.
    pub(super) fn cancel(&mut self, id: TimerId) {
        self.set.remove(&id);
    }

    /// When the next timer fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.values().min().copied()
    }

    /// Takes the timers that are due, earliest first.
    pub(super) fn due(&mut self) -> Vec<TimerId> {
        let now = Instant::now();
        let mut due: Vec<_> = self
            .set
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(id, at)| (*at, *id))
            .collect();
        due.sort_unstable();
        due.iter().for_each(|(_, id)| {
            self.set.remove(id);
        });
        due.into_iter().map(|(_, id)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weal_proto::RoundNumber;

    #[test]
    fn due_timers_fire_once_and_later_ones_wait() {
        let mut timers = Timers::new();
        timers.set(TimerId::Nudge, Millis(0));
        timers.set(TimerId::CommitClose(RoundNumber(1)), Millis(3_600_000));
        assert_eq!(timers.due(), [TimerId::Nudge]);
        assert_eq!(timers.due(), []);
        assert!(timers.next().is_some_and(|at| at > Instant::now()));
        timers.cancel(TimerId::CommitClose(RoundNumber(1)));
        assert_eq!(timers.next(), None);
    }
}
