//! Who is waited for. This is each peer's own guess: it decides how long a round takes, never what
//! is decided.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{PeerId, RoundNumber};

use super::Core;
use super::round::Training;

/// Rounds in a row in which a peer may be waited for in vain.
const PATIENCE: u8 = 3;
/// Peers remembered.
const MOST: usize = 1_024;

#[derive(Debug, Clone, Copy)]
struct Knock {
    heard: RoundNumber,
    in_vain: u8,
}

/// Peers whose commitments were heard of lately, in time or not.
///
/// A newcomer is on no roster, and slower than those who are: a round that closes as soon as all
/// members have committed would never let it in. Its late commitment is a knock on the door, and
/// the next round waits for it.
#[derive(Debug, Default)]
pub(super) struct Knocks(BTreeMap<PeerId, Knock>);

impl Knocks {
    /// A commitment came.
    pub fn heard(&mut self, peer: PeerId, round: RoundNumber, in_time: bool) {
        if self.0.len() >= MOST && !self.0.contains_key(&peer) {
            return;
        }
        let knock = self.0.entry(peer).or_insert(Knock {
            heard: round,
            in_vain: 0,
        });
        knock.heard = knock.heard.max(round);
        if in_time {
            knock.in_vain = 0;
        }
    }

    /// A peer was waited for in vain.
    pub fn missed(&mut self, peer: &PeerId) {
        if let Some(knock) = self.0.get_mut(peer) {
            knock.in_vain = knock.in_vain.saturating_add(1);
        }
    }

    /// Who is worth waiting for in a round: heard of in it or in the one before, and not waited for
    /// in vain too often.
    fn expected(&self, round: RoundNumber) -> impl Iterator<Item = PeerId> + '_ {
        let lately = move |knock: &Knock| knock.heard.next() >= round && knock.in_vain < PATIENCE;
        self.0
            .iter()
            .filter(move |(_, knock)| lately(knock))
            .map(|(peer, _)| *peer)
    }

    /// Forgets who was last heard of long before a round.
    pub fn forget_before(&mut self, round: RoundNumber) {
        self.0
            .retain(|_, knock| knock.heard.0.saturating_add(u64::from(PATIENCE)) >= round.0);
    }
}

impl Core {
    /// Whose commitments the round waits for.
    pub(super) fn expected_committers(&self) -> BTreeSet<PeerId> {
        let round = self.chain.round();
        let lately = self
            .chain
            .ledger()
            .iter()
            .filter(|(_, account)| account.member && account.contributed_until.next() >= round)
            .map(|(peer, _)| peer);
        let mut expected: BTreeSet<_> = lately.chain(self.knocks.expected(round)).collect();
        match self.round.training {
            Training::Running => expected.insert(self.me),
            Training::Over if !self.round.has_committed(&self.me) => expected.remove(&self.me),
            Training::Over | Training::Idle => false,
        };
        self.still_here(expected)
    }

    /// Whose attestations the round waits for.
    pub(super) fn expected_attesters(&self) -> BTreeSet<PeerId> {
        let round = self.chain.round();
        let ledger = self.chain.ledger();
        let lately = |peer: &PeerId| {
            ledger
                .account(peer)
                .is_some_and(|account| account.seen_until.next() >= round)
        };
        self.still_here(
            ledger
                .roster()
                .iter()
                .map(|(peer, _)| peer)
                .filter(lately)
                .collect(),
        )
    }

    /// Without those who said that they leave, or were caught lying.
    fn still_here(&self, mut peers: BTreeSet<PeerId>) -> BTreeSet<PeerId> {
        peers.retain(|peer| {
            !self.leaves.contains_key(peer)
                && !self.evidence.contains_key(peer)
                && !self.chain.ledger().is_banned(peer)
        });
        peers
    }
}
