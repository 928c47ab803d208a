//! Which timers are set, and which is due.

use std::collections::BTreeMap;

use crate::interface::names::TimerId;
use crate::interface::time::Millis;

/// The timers of one core that are set.
#[derive(Debug, Clone, Default)]
pub struct Timers {
    set: BTreeMap<TimerId, Millis>,
}

impl Timers {
    /// Sets a timer. It replaces one of the same name.
    pub fn set(&mut self, id: TimerId, at: Millis) {
        self.set.insert(id, at);
    }

    /// Cancels a timer, if it is set.
    pub fn cancel(&mut self, id: TimerId) {
        self.set.remove(&id);
    }

    /// When a timer is due, if it is set.
    pub fn due_at(&self, id: TimerId) -> Option<Millis> {
        self.set.get(&id).copied()
    }

    /// When the next timer is due.
    pub fn next(&self) -> Option<Millis> {
        self.set.values().min().copied()
    }

    /// Takes the timer that has been due for the longest. Give it to the core before taking the
    /// next one: the core may cancel that.
    pub fn pop_due(&mut self, now: Millis) -> Option<TimerId> {
        let due = self.set.iter().filter(|(_, at)| **at <= now);
        let (_, id) = due.map(|(id, at)| (*at, *id)).min()?;
        self.set.remove(&id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weal_proto::RoundNumber;

    #[test]
    fn due_timers_come_once_and_in_the_order_of_their_times() {
        let mut timers = Timers::default();
        timers.set(TimerId::CommitClose(RoundNumber(1)), Millis(20));
        timers.set(TimerId::Nudge, Millis(10));
        timers.set(TimerId::FetchClose(RoundNumber(1)), Millis(30));
        assert_eq!(timers.next(), Some(Millis(10)));
        assert_eq!(timers.pop_due(Millis(25)), Some(TimerId::Nudge));
        let second = timers.pop_due(Millis(25));
        assert_eq!(second, Some(TimerId::CommitClose(RoundNumber(1))));
        assert_eq!(timers.pop_due(Millis(25)), None);
    }

    #[test]
    fn a_timer_that_an_earlier_one_cancels_does_not_fire() {
        let mut timers = Timers::default();
        timers.set(TimerId::Nudge, Millis(1));
        timers.set(TimerId::CommitClose(RoundNumber(1)), Millis(2));
        assert_eq!(timers.pop_due(Millis(5)), Some(TimerId::Nudge));
        timers.cancel(TimerId::CommitClose(RoundNumber(1)));
        assert_eq!(timers.pop_due(Millis(5)), None);
    }
}
