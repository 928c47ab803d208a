//! What the node is doing, in a word and a sentence.

use std::time::Instant;

use weal_coordinator_free::Phase as CorePhase;
use weal_dashboard::{Fetch, Learner, NodeState, Phase};
use weal_trainer::format_bytes;

use super::feed::PageFeed;
use super::observed::Observed;
use crate::learner::LearnerHealth;

impl PageFeed {
    /// The node's state, and why it is in that state.
    pub(super) fn state(&self, observed: &Observed<'_>) -> (NodeState, String) {
        let core = observed.core;
        let round = core.round;
        if let Some(text) = &observed.full_disk {
            return (NodeState::Paused, format!("round {round}: {text}"));
        }
        if let Some(trouble) = trouble(observed, Instant::now()) {
            return (NodeState::Error, format!("round {round}: {trouble}"));
        }
        if let Some(text) = observed.monthly_use.message() {
            return (NodeState::Paused, format!("round {round}: {text}"));
        }
        if observed.weights_round.is_none_or(|weights| weights < round) {
            let what = match &observed.fetch {
                Some(Fetch {
                    what,
                    bytes_done,
                    bytes,
                }) => {
                    let (done, all) = (format_bytes(*bytes_done), format_bytes(*bytes));
                    format!("fetching the {what}: {done} of {all}")
                }
                None => "bringing the weights up to date".to_owned(),
            };
            return (NodeState::CatchingUp, format!("round {round}: {what}"));
        }
        if self.clock.phase() == Phase::Train {
            let text = format!(
                "round {round}: training, step {} of {}",
                observed.learner.steps_done, self.run.inner_steps
            );
            return (NodeState::Training, text);
        }
        let missing = core
            .peers
            .iter()
            .filter(|peer| peer.expected && !peer.committed)
            .count();
        let text = match core.phase {
            CorePhase::Committing if missing > 0 => {
                format!("round {round}: waiting for {missing} peers to train")
            }
            phase => format!("round {round}: {phase}"),
        };
        (NodeState::Waiting, text)
    }
}

/// What keeps this node from training while its network works.
fn trouble(observed: &Observed<'_>, now: Instant) -> Option<String> {
    let LearnerHealth { device, lost, .. } = &observed.health;
    if let Some(lost) = lost {
        let seconds = lost.retry_at.saturating_duration_since(now).as_secs();
        return Some(format!(
            "{device} was lost; retrying in {seconds} s ({})",
            lost.why
        ));
    }
    observed
        .learner
        .is_silent(now)
        .then(|| format!("{device} does not respond; if it stays like that, restart the node"))
}

/// What the page and the metrics show of the learner.
pub(super) fn learner(health: &LearnerHealth) -> Learner {
    Learner {
        device_lost: health.lost.is_some(),
        devices_lost: health.devices_lost,
        skipped_steps: health.skipped_steps,
        restorations: health.restorations,
        diverged_rounds: health.diverged_rounds,
        judged: health.judged,
        judging_seconds: health.judging.as_secs_f64(),
    }
}
