//! Asking peers when the round makes no progress, or when they are ahead.

use weal_proto::{PeerId, RoundNumber, Status, limits};

use super::Core;
use super::liveness::NUDGE_MS;
use crate::interface::event::Event;
use crate::interface::names::TimerId;
use crate::interface::output::Output;
use crate::interface::view::Phase;

impl Core {
    pub(super) fn progress(&mut self) {
        self.liveness.progress(self.now);
    }

    /// Checks whether the round has made progress, and asks peers if it has not.
    pub(super) fn nudge(&mut self) {
        self.set_timer(TimerId::Nudge, NUDGE_MS);
        self.begin_if_nothing_comes();
        self.bring_weights_forward();
        self.recover_if_stuck();
        let deciding = self.round.phase == Phase::Deciding;
        if self.liveness.retry(self.now, deciding) {
            self.outputs.push(Output::RequestRoundMessages {
                round: self.chain.round(),
            });
            self.request_decided();
        }
    }

    pub(super) fn request_decided(&mut self) {
        self.outputs.push(Output::RequestDecided {
            from_round: self.chain.round(),
        });
    }

    /// A peer reports how far it is. It may lie, so its report only makes this node ask.
    pub(super) fn peer_status(&mut self, peer: PeerId, status: &Status) {
        if status.rules != limits::RULES {
            let rules = status.rules;
            self.report(Event::OtherRules { peer, rules });
            return;
        }
        self.fresh_start
            .heard(peer, status.decided_rounds, &self.chain);
        let ahead = RoundNumber(status.decided_rounds);
        self.peer_is_in(&peer, ahead);
        if ahead > self.chain.round() {
            self.liveness.hold(self.chain.round(), self.now);
            self.follow(ahead);
        } else if ahead == self.chain.round() && status.newest != self.chain.parent() {
            // It has another history, or lies.
            let from_round = self.chain.past().oldest().unwrap_or(ahead);
            self.outputs.push(Output::RequestDecided { from_round });
        }
    }

    /// Peers are in a later round: asks for the rounds decided in the meantime.
    pub(super) fn follow(&mut self, ahead: RoundNumber) {
        if self.liveness.follow(self.now) {
            self.report(Event::Behind {
                round: self.chain.round(),
                ahead,
            });
            self.request_decided();
        }
    }
}
