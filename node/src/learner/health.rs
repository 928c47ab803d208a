//! What the page shows of the learner: how far it is, which device it uses, what went wrong.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long after the end of a round's training a device counts as silent. A step may take long.
const SILENCE: Duration = Duration::from_secs(600);

/// How far the training of a round is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct LearnerProgress {
    /// Inner steps done in this round.
    pub steps_done: u64,
    /// Whether the device is computing.
    pub busy: bool,
    /// When the running training has to end.
    pub due: Option<Instant>,
}

impl LearnerProgress {
    /// Whether the device takes so long that it may never answer.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.busy
            && self
                .due
                .is_some_and(|due| now.saturating_duration_since(due) > SILENCE)
    }
}

/// What has gone wrong, and what works.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LearnerHealth {
    /// The device in use, or in use before it was lost.
    pub device: String,
    /// Set while no device works.
    pub lost: Option<LostDevice>,
    /// How often a device was lost.
    pub devices_lost: u64,
    /// Inner steps that were not finite and changed nothing.
    pub skipped_steps: u64,
    /// How often training went back to the agreed weights because its own were no longer finite.
    pub restorations: u64,
    /// Rounds without a contribution because training diverged.
    pub diverged_rounds: u64,
    /// Contributions of others whose effect on the loss was measured.
    pub judged: u64,
    /// Time that this took.
    pub judging: Duration,
}

/// A device that failed and is not replaced yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LostDevice {
    /// What it was doing and what it said, or why it cannot be opened.
    pub why: String,
    /// When the node opens it again.
    pub retry_at: Instant,
}

/// State shared between the thread and its handles.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    progress: Arc<RwLock<LearnerProgress>>,
    health: Arc<RwLock<LearnerHealth>>,
}

impl Shared {
    pub(super) fn progress(&self) -> LearnerProgress {
        *self.progress.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_progress(&self, progress: LearnerProgress) {
        *self
            .progress
            .write()
            .unwrap_or_else(PoisonError::into_inner) = progress;
    }

    pub(super) fn health(&self) -> LearnerHealth {
        self.health
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn change_health(&self, change: impl FnOnce(&mut LearnerHealth)) {
        change(&mut self.health.write().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_silent_if_it_computes_long_after_its_time() {
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
