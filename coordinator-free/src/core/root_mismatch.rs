//! Noticing that our weights differ from the voters'.
//!
//! A decision names the weights that it starts from, so the next decision exposes damaged weights
//! at the latest. But if members with more than a third of the weight attest from damaged weights,
//! nobody can decide the attempt. So a node compares its weights with those that others train from
//! before it attests.
//!
//! If no root has half of the weight behind it, nobody can tell whose weights are the right ones.
//! But the weights at the start of the last decided round are proven, and all compute the same from
//! them. So once an attempt has failed, each node whose weights are not most voters' computes them
//! again. Any number of voters with damaged weights come together again like this.

use std::collections::BTreeMap;

use weal_proto::{PeerId, StateRoot};

use super::Core;
use super::compare::Comparison;
use super::weight_sync::Weights;
use crate::interface::event::Event;
use crate::interface::view::Phase;

impl Core {
    /// If voters start from other weights, discards ours and restarts the round: with theirs if
    /// most share them, else with what the last proven weights lead to. Returns whether it does.
    pub(super) fn restart_if_weights_differ(&mut self) -> bool {
        let Some(ours) = self.base_root() else {
            return false;
        };
        let round = self.chain.round();
        let target = match self.majority_root() {
            Some(theirs) if theirs == ours => return false,
            Some(theirs) => {
                self.report(Event::RootMismatch {
                    round,
                    ours,
                    theirs,
                });
                let root = theirs;
                let target = Weights { round, root };
                self.weight_sync.discard(target);
                target
            }
            None => {
                let Some(target) = self.go_back() else {
                    return false;
                };
                let back_to = target.round;
                self.report(Event::WeightsUnsure { round, back_to });
                target
            }
        };
        self.stop_training();
        // What was found was found with other weights.
        self.round.examined.clear();
        self.round.examining.clear();
        self.round.comparison = Comparison::default();
        self.enter(Phase::Waiting, None);
        self.fetch_weights(target);
        true
    }

    /// If voters are split about the base root, discards our weights, once in each attempt after
    /// the first. Returns the proven ones to fetch.
    fn go_back(&mut self) -> Option<Weights> {
        let attempt = self.round.attempt;
        let due = attempt > self.round.computed_again_in && self.voters_are_split();
        let target = due.then(|| self.weight_sync.go_back())??;
        self.round.computed_again_in = attempt;
        Some(target)
    }

    /// The base root that voters with more than half the weight name. Some of them are honest.
    fn majority_root(&self) -> Option<StateRoot> {
        let roster = self.chain.ledger().roster();
        let weights = self.weight_by_root();
        let mut roots = weights.into_iter();
        roots
            .find(|(_, weight)| roster.is_majority(*weight))
            .map(|(root, _)| root)
    }

    /// Whether voters with more than two thirds of the weight have named base roots, and none has
    /// two thirds.
    fn voters_are_split(&self) -> bool {
        let roster = self.chain.ledger().roster();
        let weights = self.weight_by_root();
        roster.is_quorum(weights.values().sum())
            && !weights.values().any(|weight| roster.is_quorum(*weight))
    }

    /// The weight behind each base root. Of each voter, the last word counts.
    fn weight_by_root(&self) -> BTreeMap<StateRoot, u128> {
        let mut roots: BTreeMap<PeerId, StateRoot> = BTreeMap::new();
        let commitments = self.round.commitments.iter();
        roots.extend(commitments.map(|(peer, signed)| (*peer, signed.commitment.base_root)));
        // By rising attempt.
        let attestations = self.round.attestations.iter();
        roots.extend(attestations.map(|((_, peer), (_, said))| (*peer, said.base_root)));
        let roster = self.chain.ledger().roster();
        let mut weights: BTreeMap<StateRoot, u128> = BTreeMap::new();
        for (peer, root) in roots {
            let weight = weights.entry(root).or_default();
            *weight = weight.saturating_add(roster.weight(&peer).into());
        }
        weights
    }
}
