//! Applying decided rounds to the weights in memory, or fetching newer weights.

use weal_proto::{PeerId, RoundNumber, StateRoot};

use super::Core;
use super::weight_sync::{Step, Weights};
use crate::interface::event::Event;
use crate::interface::output::Output;

/// After this time without a decided round, in milliseconds, a newcomer stops waiting for more.
const NOTHING_COMES_MS: u64 = 10_000;
/// After this time without a decided round, in milliseconds, a node that is far behind fetches
/// weights although more rounds seem to follow.
const MORE_FOLLOW_MS: u64 = 2_000;

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

    /// The caller has no weights.
    pub(super) fn weights_absent(&mut self) {
        self.weight_sync.absent();
        // A founder may begin the run.
        if self.chain.round().0 == 0 && self.chain.ledger().roster().contains(&self.me) {
            self.compute_initial_weights();
        }
        self.bring_weights_forward();
    }

    /// A peer claims to be in this round. A newcomer that has caught up with all claims begins from
    /// the initial weights. Other newcomers know no more than it does.
    pub(super) fn peer_is_in(&mut self, peer: &PeerId, round: RoundNumber) {
        if round.0 > 0 || self.chain.ledger().roster().contains(peer) {
            self.furthest_claim = self.furthest_claim.max(Some(round));
            self.begin_if_caught_up();
        }
    }

    /// Lets a newcomer begin from the initial weights if no peer claims to be further than it is.
    pub(super) fn begin_if_caught_up(&mut self) {
        let round = self.chain.round();
        if self.furthest_claim.is_some_and(|claim| claim <= round) {
            self.compute_initial_weights();
        }
    }

    /// Lets a newcomer begin from the initial weights if nobody sends it decided rounds, whatever
    /// peers claim.
    pub(super) fn begin_if_nothing_comes(&mut self) {
        if self.now.since(self.round_since) >= NOTHING_COMES_MS {
            self.compute_initial_weights();
        }
    }

    fn compute_initial_weights(&mut self) {
        let lacks_many = self.weight_sync.lacks_many(self.chain.round());
        if !lacks_many && self.weight_sync.begins() {
            self.outputs.push(Output::ComputeInitialWeights);
        }
    }

    /// The caller could not bring the weights forward. The next nudge tries again.
    pub(super) fn apply_failed(&mut self, round: RoundNumber) {
        self.weight_sync.failed(round);
    }

    /// Asks for the next step towards the weights of the running round.
    pub(super) fn bring_weights_forward(&mut self) {
        let more_follow =
            self.more_rounds_follow && self.now.since(self.round_since) < MORE_FOLLOW_MS;
        if more_follow && self.weight_sync.lacks_many(self.chain.round()) {
            // Peers may have deleted the newest checkpoint that is known so far.
            return;
        }
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
