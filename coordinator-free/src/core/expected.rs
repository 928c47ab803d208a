//! Which peers a phase waits for. Each node guesses for itself: its guess decides how long a phase
//! takes, and never what voters decide.

use std::collections::BTreeSet;

use weal_proto::PeerId;

use super::Core;
use super::round::Training;

impl Core {
    /// The peers whose commitments the round waits for.
    pub(super) fn expected_committers(&self) -> BTreeSet<PeerId> {
        let round = self.chain.round();
        let lately = self
            .chain
            .ledger()
            .iter()
            .filter(|(_, account)| account.member && account.contributed_until.next() >= round)
            .map(|(peer, _)| peer);
        let mut expected: BTreeSet<_> = lately
            .chain(self.recent_committers.expected(round))
            .collect();
        match self.round.training {
            Training::Running => expected.insert(self.me),
            Training::Over if !self.round.has_committed(&self.me) => expected.remove(&self.me),
            Training::Over | Training::Idle => false,
        };
        self.without_leavers(expected)
    }

    /// The voters whose attestations the round waits for.
    pub(super) fn expected_attesters(&self) -> BTreeSet<PeerId> {
        let round = self.chain.round();
        let ledger = self.chain.ledger();
        let seen_lately = |peer: &PeerId| {
            ledger
                .account(peer)
                .is_some_and(|account| account.seen_until.next() >= round)
        };
        let voters = ledger.roster().iter().map(|(peer, _)| peer);
        self.without_leavers(voters.filter(seen_lately).collect())
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
