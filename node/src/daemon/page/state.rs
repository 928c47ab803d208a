//! What the node is doing, in one word and in a sentence.

use std::time::Instant;

use weal_coordinator_free::Phase as CorePhase;
use weal_dashboard::{Learner, NodeState, Phase};

use super::{Page, Seen};
use crate::learner::LearnerHealth;

impl Page {
    /// The node's state, and why it is in it.
    pub(super) fn state(&self, seen: &Seen<'_>) -> (NodeState, String) {
        let core = seen.core;
        if let Some(trouble) = trouble(seen, Instant::now()) {
            return (NodeState::Error, format!("round {}: {trouble}", core.round));
        }
        if seen
            .weights_round
            .is_none_or(|weights| weights < core.round)
        {
            return (
                NodeState::CatchingUp,
                format!("round {}: bringing the weights up to date", core.round),
            );
        }
        if self.phase == Phase::Train {
            let text = format!(
                "round {}: training, step {} of {}",
                core.round, seen.learner.steps_done, self.steps
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
                format!("round {}: waiting for {missing} peers to train", core.round)
            }
            phase => format!("round {}: {phase}", core.round),
        };
        (NodeState::Waiting, text)
    }
}

/// What keeps this node from training, though its network is well.
fn trouble(seen: &Seen<'_>, now: Instant) -> Option<String> {
    let LearnerHealth { device, lost, .. } = &seen.health;
    if let Some(lost) = lost {
        let seconds = lost.retry_at.saturating_duration_since(now).as_secs();
        return Some(format!(
            "{device} was lost; tried again in {seconds} s ({})",
            lost.why
        ));
    }
    let is_silent = seen.learner.is_silent(now);
    is_silent.then(|| format!("{device} does not answer; if that lasts, start the node again"))
}

/// What the page and the metrics say of the learner.
pub(super) fn learner(health: &LearnerHealth) -> Learner {
    Learner {
        device_lost: health.lost.is_some(),
        devices_lost: health.devices_lost,
        skipped_steps: health.skipped_steps,
        restorations: health.restorations,
        diverged_rounds: health.diverged_rounds,
    }
}
