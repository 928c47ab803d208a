//! Which peers a phase waits for. Each node guesses for itself: its guess decides how long a phase
//! takes, and never what voters decide.

use std::collections::BTreeSet;

use weal_proto::{PeerId, RoundNumber};

use super::Core;
use super::round::Training;
use crate::rules::ledger::Account;

impl Core {
    /// The holders of places whose commitments the round waits for: members that contributed to one
    /// of the last two rounds or are [back](is_back), and newcomers. This node is among them while
    /// it trains.
    pub(super) fn expected_committers(&self) -> (BTreeSet<PeerId>, BTreeSet<PeerId>) {
        let (round, places) = (self.chain.round(), self.chain.places());
        let contributes = |peer: &&PeerId| {
            let account = self.chain.ledger().account(peer);
            account.is_some_and(|account| {
                account.contributed_until.next() >= round || is_back(account, round)
            })
        };
        let members = places.members().iter().filter(contributes);
        let mut members = self.without_leavers(members.copied().collect());
        let mut newcomers = self.without_leavers(places.newcomers().iter().copied().collect());
        match self.round.training {
            Training::Running if places.slot_of(&self.me).is_some() => {
                members.insert(self.me);
            }
            Training::Over | Training::Idle if !self.round.has_committed(&self.me) => {
                members.remove(&self.me);
                newcomers.remove(&self.me);
            }
            _ => {}
        }
        (members, newcomers)
    }

    /// The voters whose attestations the round waits for: those of the last two rounds, and those
    /// that lag behind. Without time to catch up, they might never.
    pub(super) fn expected_attesters(&self) -> BTreeSet<PeerId> {
        let round = self.chain.round();
        let ledger = self.chain.ledger();
        let is_heard = |peer: &PeerId| {
            let account = ledger.account(peer);
            self.laggards.contains_key(peer) || account.is_some_and(|it| is_heard(it, round))
        };
        let voters = ledger.roster().iter().map(|(peer, _)| peer);
        self.without_leavers(voters.filter(is_heard).collect())
    }

    /// Removes peers that have announced that they leave, and those that have contradicted
    /// themselves.
    fn without_leavers(&self, mut peers: BTreeSet<PeerId>) -> BTreeSet<PeerId> {
        peers.retain(|peer| {
            !self.leaves.contains_key(peer)
                && !self.evidence.contains_key(peer)
                && !self.chain.ledger().is_banned(peer)
        });
        peers
    }
}

/// Whether one of the last two decided rounds holds a word of the peer.
fn is_heard(account: &Account, round: RoundNumber) -> bool {
    account.seen_until.next() >= round
}

/// Whether to wait for the contribution of a member that is heard, but has not contributed to the
/// last two rounds: 2, 4, 8, 16 and so on rounds after it last did.
///
/// If nobody waited, whoever was away could come back only by being faster than all others. If
/// everybody always waited, a member that never contributes could hold up every round.
fn is_back(account: &Account, round: RoundNumber) -> bool {
    let gap = round.0.saturating_sub(account.contributed_until.0);
    is_heard(account, round) && gap.is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_heard_but_does_not_contribute_is_waited_for_ever_more_rarely() {
        let waits = |round: u64, seen_until: u64| {
            let account = Account {
                seen_until: RoundNumber(seen_until),
                contributed_until: RoundNumber(10),
                ..Account::default()
            };
            is_back(&account, RoundNumber(round))
        };
        let heard: Vec<u64> = (11..80).filter(|round| waits(*round, *round)).collect();
        assert_eq!(heard, [11, 12, 14, 18, 26, 42, 74]);
        assert!((12..80).all(|round| !waits(round, 10)));
    }
}
