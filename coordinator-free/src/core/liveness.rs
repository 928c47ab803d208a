//! When to ask peers for what gossip lost.
//!
//! Gossip is fast but unreliable: it drops messages, and never carries the same bytes twice. So a
//! node that waits for something asks peers for it: soon at first, and then ever more rarely.

use weal_proto::RoundNumber;

use crate::interface::time::Millis;

/// How often the node checks whether the round has made progress, in milliseconds.
pub(super) const NUDGE_MS: u64 = 500;
/// The node asks for the first time when it has seen no progress for this long.
const FIRST_RETRY_MS: u64 = 1_000;
/// Each retry waits twice as long as the last one, up to this.
const MAX_RETRY_MS: u64 = 16_000;
/// While voters decide, one voter that is stuck holds up all others, so it asks more often.
const MAX_RETRY_DECIDING_MS: u64 = 2_000;
/// The node follows hints that peers are ahead at most this often.
const FOLLOW_MS: u64 = 500;
/// A node that has just started delays training this long after it hears that peers are ahead. A
/// lying peer costs a newcomer this much, once a round, until the newcomer has taken part in a
/// decision.
const HOLD_MS: u64 = 3_000;

/// When the round last made progress, and when to ask peers.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    retry_at: Millis,
    retry_after_ms: u64,
    follow_at: Millis,
    hold: Option<(RoundNumber, Millis)>,
    caught_up: bool,
}

impl Liveness {
    /// The round made progress.
    pub(super) const fn progress(&mut self, now: Millis) {
        self.retry_after_ms = FIRST_RETRY_MS;
        self.retry_at = now.after(FIRST_RETRY_MS);
    }

    /// Whether it is time to ask peers. If so, sets the time of the next retry.
    pub(super) fn retry(&mut self, now: Millis, deciding: bool) -> bool {
        if now < self.retry_at {
            return false;
        }
        let longest = if deciding {
            MAX_RETRY_DECIDING_MS
        } else {
            MAX_RETRY_MS
        };
        let doubled = self.retry_after_ms.saturating_mul(2);
        self.retry_after_ms = doubled.clamp(FIRST_RETRY_MS, longest);
        self.retry_at = now.after(self.retry_after_ms);
        true
    }

    /// Whether to follow a hint that peers are ahead. If so, ignores further hints for a while.
    pub(super) fn follow(&mut self, now: Millis) -> bool {
        if now < self.follow_at {
            return false;
        }
        self.follow_at = now.after(FOLLOW_MS);
        true
    }

    /// A peer claims to be past `round`, the running one. A node that has not caught up then waits
    /// for decided rounds instead of training.
    pub(super) fn hold(&mut self, round: RoundNumber, now: Millis) {
        if !self.caught_up && self.hold.is_none_or(|(held, _)| held < round) {
            self.hold = Some((round, now.after(HOLD_MS)));
        }
    }

    /// Whether to wait for decided rounds before training in `round`.
    pub(super) fn holds(&self, round: RoundNumber, now: Millis) -> bool {
        self.hold
            .is_some_and(|(held, until)| held == round && now < until)
    }

    /// This node took part in a decision, so it has caught up with its peers.
    pub(super) const fn caught_up(&mut self) {
        self.caught_up = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_up_to_a_limit_that_is_lower_while_voters_decide() {
        let mut liveness = Liveness::default();
        liveness.progress(Millis(0));
        assert!(!liveness.retry(Millis(999), false));
        let mut now = Millis(1_000);
        for wait in [2_000, 4_000, 8_000, 16_000, 16_000] {
            assert!(liveness.retry(now, false));
            assert!(!liveness.retry(now.after(wait - 1), false));
            now = now.after(wait);
        }
        assert!(liveness.retry(now, true));
        assert!(liveness.retry(now.after(2_000), true));
    }

    #[test]
    fn only_a_node_that_has_not_caught_up_waits_for_its_peers() {
        let mut liveness = Liveness::default();
        liveness.hold(RoundNumber(3), Millis(0));
        assert!(liveness.holds(RoundNumber(3), Millis(2_999)));
        assert!(!liveness.holds(RoundNumber(3), Millis(3_000)));
        liveness.hold(RoundNumber(3), Millis(3_000));
        assert!(!liveness.holds(RoundNumber(3), Millis(3_000)));
        liveness.caught_up();
        liveness.hold(RoundNumber(4), Millis(3_000));
        assert!(!liveness.holds(RoundNumber(4), Millis(3_000)));
    }
}
