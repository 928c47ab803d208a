//! Which peers a phase waits for. Each node guesses for itself: its guess decides how long a phase
//! takes, and never what voters decide.

use std::collections::BTreeSet;

use weal_proto::PeerId;

use super::Core;
use super::round::Training;

impl Core {
    /// The holders of places whose commitments the round waits for: members that contributed to one
    /// of the last two rounds, and newcomers. This node is among them while it trains.
    pub(super) fn expected_committers(&self) -> (BTreeSet<PeerId>, BTreeSet<PeerId>) {
        let (round, places) = (self.chain.round(), self.chain.places());
        let contributes = |peer: &&PeerId| {
            let account = self.chain.ledger().account(peer);
            account.is_some_and(|account| account.contributed_until.next() >= round)
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
