//! Noticing that nothing moves, and asking around.
//!
//! Gossip is the fast path, and it may lose: it drops messages, and never carries the same bytes
//! twice. So whoever waits asks others what it missed, soon at first, then less and less often.

use weal_proto::{RoundNumber, Status};

use super::Core;
use crate::interface::event::Event;
use crate::interface::output::{Output, TimerId};
use crate::interface::time::Millis;
use crate::interface::view::Phase;

/// How often this peer looks whether anything has moved, in milliseconds.
pub(super) const NUDGE_MS: u64 = 500;
/// Without progress for this long, it asks.
const PATIENCE_MS: u64 = 1_000;
/// And then ever more rarely, up to this.
const MOST_PATIENCE_MS: u64 = 16_000;
/// While votes are being exchanged, everybody waits for whoever is stuck.
const MOST_PATIENCE_DECIDING_MS: u64 = 2_000;
/// Hints that others are ahead are followed no more often than this.
const FOLLOW_MS: u64 = 500;
/// A peer that has just started does not train for this long after hearing that others are ahead.
/// Whoever lies about it costs a newcomer this much, once a round, until it has taken part in a
/// decision.
const HOLD_MS: u64 = 3_000;

/// When something last moved, and when to ask.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    ask_at: Millis,
    patience_ms: u64,
    follow_at: Millis,
    hold: Option<(RoundNumber, Millis)>,
    /// This peer has decided a round itself: it is not catching up any more.
    pub caught_up: bool,
}

impl Core {
    /// Something moved.
    pub(super) fn progress(&mut self) {
        self.liveness.patience_ms = PATIENCE_MS;
        self.liveness.ask_at = self.now.after(PATIENCE_MS);
    }

    pub(super) fn nudge(&mut self) {
        self.set_timer(TimerId::Nudge, NUDGE_MS);
        self.bring_weights_forward();
        if self.now < self.liveness.ask_at {
            return;
        }
        let most = match self.round.phase {
            Phase::Deciding => MOST_PATIENCE_DECIDING_MS,
            _ => MOST_PATIENCE_MS,
        };
        self.liveness.patience_ms = self
            .liveness
            .patience_ms
            .saturating_mul(2)
            .clamp(PATIENCE_MS, most);
        self.liveness.ask_at = self.now.after(self.liveness.patience_ms);
        self.outputs.push(Output::RequestRoundMessages {
            round: self.chain.round(),
        });
        self.request_decided();
    }

    pub(super) fn request_decided(&mut self) {
        self.outputs.push(Output::RequestDecided {
            from_round: self.chain.round(),
        });
    }

    /// A peer says where it is. It may lie, so this only makes this peer ask.
    pub(super) fn peer_status(&mut self, status: &Status) {
        let ahead = RoundNumber(status.decided_rounds);
        if ahead <= self.chain.round() {
            return;
        }
        if !self.liveness.caught_up
            && self
                .liveness
                .hold
                .is_none_or(|(round, _)| round < self.chain.round())
        {
            self.liveness.hold = Some((self.chain.round(), self.now.after(HOLD_MS)));
        }
        self.follow(ahead);
    }

    /// Others speak of a later round: asks for what was decided meanwhile.
    pub(super) fn follow(&mut self, ahead: RoundNumber) {
        if self.now < self.liveness.follow_at {
            return;
        }
        self.liveness.follow_at = self.now.after(FOLLOW_MS);
        self.report(Event::Behind {
            round: self.chain.round(),
            ahead,
        });
        self.request_decided();
    }

    /// Whether to wait for decided rounds before training.
    pub(super) fn held_back(&self) -> bool {
        self.liveness
            .hold
            .is_some_and(|(round, until)| round == self.chain.round() && self.now < until)
    }
}
