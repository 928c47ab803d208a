//! Seconds in each phase of a round.

use std::time::Instant;

use weal_dashboard::{Phase, PhaseSeconds, Round};

use crate::wall_clock::unix_ms;

/// Measures the running round, and remembers the last one.
pub(super) struct PhaseClock {
    phase: Phase,
    phase_started: Instant,
    phase_started_unix_ms: u64,
    elapsed: PhaseSeconds,
    last: PhaseSeconds,
    round_started: Instant,
}

impl PhaseClock {
    /// A clock that starts now, in the phase in which a node brings its weights up to date.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            phase: Phase::Apply,
            phase_started: now,
            phase_started_unix_ms: unix_ms(),
            elapsed: PhaseSeconds::default(),
            last: PhaseSeconds::default(),
            round_started: now,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The round enters a phase. Does nothing if it is in that phase already.
    pub(super) fn enter(&mut self, phase: Phase) {
        if phase == self.phase {
            return;
        }
        self.elapsed = self.elapsed_now();
        self.phase = phase;
        self.phase_started = Instant::now();
        self.phase_started_unix_ms = unix_ms();
    }

    /// The round is over. Returns its seconds in all and in each phase.
    pub(super) fn end_round(&mut self) -> (f64, PhaseSeconds) {
        self.enter(Phase::Apply);
        let seconds = self.round_started.elapsed().as_secs_f64();
        self.last = self.elapsed_now();
        self.elapsed = PhaseSeconds::default();
        self.phase_started = Instant::now();
        self.round_started = Instant::now();
        (seconds, self.last)
    }

    fn elapsed_now(&self) -> PhaseSeconds {
        let mut elapsed = self.elapsed;
        let seconds = elapsed.get(self.phase) + self.phase_started.elapsed().as_secs_f64();
        elapsed.set(self.phase, seconds);
        elapsed
    }

    /// The running round as the page shows it.
    pub(super) fn round(&self, number: u64, steps_done: u64, steps: u64) -> Round {
        Round {
            number,
            phase: self.phase,
            phase_started_unix_ms: self.phase_started_unix_ms,
            elapsed: self.elapsed_now(),
            expected: self.last,
            steps_done,
            steps,
            deadline_unix_ms: None,
        }
    }
}
