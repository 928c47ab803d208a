//! Recovery: operators go on without voters that are gone for ever.

use std::collections::BTreeSet;

use weal_proto::PeerId;

use super::Core;
use crate::interface::event::Event;
use crate::interface::output::Record;
use crate::rules::recovery;

/// A round that has run for this long is stuck. Before that, a recovery would be a mistake: the
/// decision may be on its way, or decided elsewhere already.
const STUCK_MS: u64 = 60_000;

impl Core {
    /// The operator declares that these voters are gone.
    pub(super) fn declare_gone(&mut self, gone: Vec<PeerId>) {
        self.gone = gone.into_iter().collect();
    }

    /// Signs what the operator declared, once the round is stuck. This node signs one recovery in a
    /// round, and votes no longer in it: a vote might help to decide the round in another way.
    pub(super) fn recover_if_stuck(&mut self) {
        let stuck = self.now.since(self.round_since) >= STUCK_MS;
        if self.gone.is_empty() || !stuck || self.round.recoveries.contains_key(&self.me) {
            return;
        }
        let roster = self.chain.ledger().roster();
        let gone: BTreeSet<_> = self.gone.clone();
        let known = gone.iter().all(|peer| roster.contains(peer));
        let votes = roster.contains(&self.me) && !gone.contains(&self.me);
        let Some(base_root) = self.base_root().filter(|_| known && votes) else {
            return;
        };
        if !self.fresh_start.may_sign(&self.chain) {
            return;
        }
        let said = recovery::recovery(&self.chain, base_root, gone.into_iter().collect());
        let envelope = self.say(&said, Record::OwnRecovery);
        self.round.recoveries.insert(self.me, envelope);
        self.report(Event::Recovering {
            round: self.chain.round(),
        });
        self.stop_for_recovery();
        self.decide_by_recovery();
    }

    /// This node votes no longer in the round.
    pub(super) fn stop_for_recovery(&mut self) {
        self.stop_voting("the operator declared voters gone for ever".into());
    }

    /// Takes a recovery with enough weight as the round's decision.
    pub(super) fn decide_by_recovery(&mut self) {
        if let Some(decided) = recovery::decide(&self.chain, &self.round.recoveries)
            && let Err(cause) = self.adopt(decided, false)
        {
            self.report(Event::SyncRefused {
                round: self.chain.round(),
                cause: cause.to_string(),
            });
        }
    }
}
