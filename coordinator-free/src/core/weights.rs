//! Applying decided rounds to the weights in memory, or fetching newer weights.

use weal_proto::{RoundNumber, StateRoot};

use super::Core;
use super::weight_sync::{Step, Weights};
use crate::interface::event::Event;
use crate::interface::output::Output;

impl Core {
    /// The state root of the weights that the running round starts from, if they are in memory.
    pub(super) fn base_root(&self) -> Option<StateRoot> {
        self.weight_sync.root_at(self.chain.round())
    }

    pub(super) fn weights_ready(&mut self, round: RoundNumber, root: StateRoot) {
        if round > self.chain.round() {
            return;
        }
        self.weight_sync.ready(Weights { round, root });
        self.progress();
        self.bring_weights_forward();
    }

    /// The caller could not bring the weights forward. The next nudge tries again.
    pub(super) fn apply_failed(&mut self, round: RoundNumber) {
        self.weight_sync.failed(round);
    }

    /// Asks for the next step towards the weights of the running round.
    pub(super) fn bring_weights_forward(&mut self) {
        match self.weight_sync.next(self.chain.round()) {
            Some(Step::Apply(apply)) => self.outputs.push(Output::Apply(apply)),
            Some(Step::Fetch(target)) => self.fetch_weights(target),
            Some(Step::Replace { ours, target }) => {
                self.report(Event::RootMismatch {
                    round: target.round,
                    ours,
                    theirs: target.root,
                });
                self.fetch_weights(target);
            }
            None => {}
        }
    }

    pub(super) fn fetch_weights(&mut self, target: Weights) {
        let Weights { round, root } = target;
        self.outputs.push(Output::FetchWeights { round, root });
    }
}
