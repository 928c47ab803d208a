//! The core's timers and clock. The clock counts milliseconds since the process started.

use std::time::{Duration, Instant};

use weal_coordinator_free::host;
use weal_coordinator_free::{Millis, TimerId};

/// The clock, and the timers that are set.
#[derive(Debug)]
pub(super) struct Timers {
    origin: Instant,
    set: host::Timers,
}

impl Timers {
    /// A clock that starts now, and no timers.
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            set: host::Timers::default(),
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
        self.set.set(id, at);
    }

    /// Cancels a timer, if it is set.
    pub(super) fn cancel(&mut self, id: TimerId) {
        self.set.cancel(id);
    }

    /// When a timer fires, if it is set.
    pub(super) fn at(&self, id: TimerId) -> Option<Instant> {
        self.set.due_at(id).map(|at| self.instant(at))
    }

    /// When the next timer fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.next().map(|at| self.instant(at))
    }

    /// Takes the timer that has been due for the longest.
    pub(super) fn pop_due(&mut self) -> Option<TimerId> {
        self.set.pop_due(self.now())
    }
}
