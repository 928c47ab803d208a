//! What people are told of the learner: how far it is, what it trains on, and what went wrong.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Time after the end of a round's training in which a device is not called silent: a step may take
/// long.
const SILENCE: Duration = Duration::from_secs(600);

/// How far the running training is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LearnerProgress {
    /// Steps done.
    pub steps_done: u64,
    /// Whether anything is being computed.
    pub busy: bool,
    /// When the running training is to be over.
    pub due: Option<Instant>,
}

impl LearnerProgress {
    /// Whether a step takes so long that the device may never answer.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.busy
            && self
                .due
                .is_some_and(|due| now.saturating_duration_since(due) > SILENCE)
    }
}

/// How the learner is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LearnerHealth {
    /// The device in use, or in use before it was lost.
    pub device: String,
    /// Set while there is nothing to train on.
    pub lost: Option<LostDevice>,
    /// Failures of devices.
    pub devices_lost: u64,
    /// Inner steps that were not finite and changed nothing.
    pub skipped_steps: u64,
    /// How often training went back to the agreed weights, because it led to values that are not
    /// finite.
    pub restorations: u64,
    /// Rounds in which nothing was learnt for that reason.
    pub diverged_rounds: u64,
}

/// A device that failed, and is not replaced yet.
#[derive(Debug, Clone, PartialEq)]
pub struct LostDevice {
    /// What it was doing, and what it said; or why it cannot be opened again.
    pub why: String,
    /// When it is opened again.
    pub retry_at: Instant,
}

/// Shared between the thread and its handles.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    progress: Arc<RwLock<LearnerProgress>>,
    health: Arc<RwLock<LearnerHealth>>,
}

impl Shared {
    pub fn progress(&self) -> LearnerProgress {
        *self.progress.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_progress(&self, progress: LearnerProgress) {
        *self
            .progress
            .write()
            .unwrap_or_else(PoisonError::into_inner) = progress;
    }

    pub fn health(&self) -> LearnerHealth {
        self.health
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn change_health(&self, change: impl FnOnce(&mut LearnerHealth)) {
        change(&mut self.health.write().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_at_work_long_after_its_time_is_silent() {
        let due = Instant::now();
        let progress = LearnerProgress {
            steps_done: 3,
            busy: true,
            due: Some(due),
        };
        assert!(!progress.is_silent(due) && !progress.is_silent(due + SILENCE));
        let late = due + SILENCE + Duration::from_secs(1);
        assert!(progress.is_silent(late));
        assert!(
            !LearnerProgress {
                busy: false,
                ..progress
            }
            .is_silent(late)
        );
        assert!(
            !LearnerProgress {
                due: None,
                ..progress
            }
            .is_silent(late)
        );
    }
}
