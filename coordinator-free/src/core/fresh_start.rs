//! A voter without a record of the run, which may have had one.
//!
//! A founder whose disk is lost has its key still, and does not know what it signed. If it began at
//! round 0 again, it would contradict itself, and where its weight alone decides, it would make a
//! second history with valid certificates. So it signs nothing before it has heard of the run: it
//! begins at round 0 only with the right to, which the creator of the run has once, or if founders
//! with more than a third of the weight are at round 0 themselves. Otherwise it waits for decided
//! rounds.

use std::collections::BTreeSet;

use weal_proto::PeerId;

use crate::rules::chain::Chain;

/// Whether this node may sign, and which founders are at round 0.
#[derive(Debug)]
pub(super) struct FreshStart {
    may_sign: bool,
    at_genesis: BTreeSet<PeerId>,
}

impl FreshStart {
    /// A node that may sign, or one that has to hear of the run first.
    pub(super) const fn new(may_sign: bool) -> Self {
        Self {
            may_sign,
            at_genesis: BTreeSet::new(),
        }
    }

    /// A peer claims that this many rounds are decided. Claims of founders that contradict a record
    /// are outweighed: more than a third of the weight is never false in a run that is safe.
    pub(super) fn heard(&mut self, peer: PeerId, decided_rounds: u64, chain: &Chain) {
        if self.may_sign {
            return;
        }
        if decided_rounds > 0 {
            self.at_genesis.remove(&peer);
            return;
        }
        self.at_genesis.insert(peer);
        let roster = chain.ledger().roster();
        let weight = self.at_genesis.iter().fold(0u128, |sum, peer| {
            sum.saturating_add(u128::from(roster.weight(peer)))
        });
        self.may_sign = weight.saturating_mul(3) > u128::from(roster.total().0);
    }

    /// Whether this node may sign. It may once a round is decided: the decision stands, whoever
    /// made it.
    pub(super) fn may_sign(&self, chain: &Chain) -> bool {
        self.may_sign || chain.round().0 > 0
    }
}
