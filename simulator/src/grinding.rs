//! A proposer that tries many sets, and proposes the one whose seed suits its coalition.

use std::cell::RefCell;
use std::rc::Rc;

use weal_coordinator_free::sim::{Glimpse, Random};
use weal_proto::{Envelope, PeerId, RoundSet};

use crate::lab::Lab;

/// Sets that it tries for each proposal.
const TRIES: usize = 256;

/// A proposer that tries many sets.
pub(crate) struct Grinder {
    lab: Rc<RefCell<Lab>>,
    random: Random,
}

impl std::fmt::Debug for Grinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grinder").finish_non_exhaustive()
    }
}

impl Grinder {
    pub(crate) fn new(lab: &Rc<RefCell<Lab>>) -> Self {
        let random = Random::new(lab.borrow().seed());
        Self {
            lab: Rc::clone(lab),
            random,
        }
    }

    /// Of many sets, with and without some of the attestations, the one after whose decision the
    /// coalition has most committees in its hands. All of them choose the same contributions.
    pub(crate) fn best(&mut self, glimpse: &Glimpse<'_>, set: RoundSet) -> RoundSet {
        let tried = (0..TRIES).map(|_| self.other(glimpse, &set));
        let tried: Vec<_> = tried.collect();
        let captured = |set: &RoundSet| self.captured(glimpse, set);
        tried.into_iter().max_by_key(captured).unwrap_or(set)
    }

    /// The set without some of its attestations, as many as may be left out.
    fn other(&mut self, glimpse: &Glimpse<'_>, set: &RoundSet) -> RoundSet {
        let roster = glimpse.chain.ledger().roster();
        let mut other = set.clone();
        let weight = |one: &Envelope| u128::from(roster.weight(&one.signer));
        let mut kept: u128 = set.attestations.iter().map(weight).sum();
        other.attestations.retain(|one| {
            let without = kept.saturating_sub(weight(one));
            let differs = set.differences.iter().any(|other| other.peer == one.signer);
            let leaves_out = roster.is_quorum(without) && !differs && self.random.chance(300_000);
            if leaves_out {
                kept = without;
            }
            !leaves_out
        });
        other
    }

    /// The committees that the coalition has in its hands after this set.
    fn captured(&self, glimpse: &Glimpse<'_>, set: &RoundSet) -> usize {
        let lab = self.lab.borrow();
        let is_friend = |peer: &PeerId| {
            let index = lab.indices.get(peer);
            index.is_some_and(|index| !lab.is_honest(*index))
        };
        let is_captured = |of: &&Envelope| {
            let committee = glimpse.committee_after(set, &of.signer);
            let all: u64 = committee.values().sum();
            let friends = committee.iter().filter(|(voter, _)| is_friend(voter));
            friends.map(|(_, voices)| voices).sum::<u64>() * 2 > all
        };
        set.contributions.iter().filter(is_captured).count()
    }
}
