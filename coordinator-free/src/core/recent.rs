//! Peers whose commitments arrived lately.

use std::collections::BTreeMap;

use weal_proto::{PeerId, RoundNumber};

/// The round stops waiting for a peer after this many rounds in a row without its commitment.
const MAX_MISSED: u8 = 3;
/// The most peers remembered.
const MAX_PEERS: usize = 1_024;

#[derive(Debug, Clone, Copy)]
struct Committer {
    /// The newest round that it committed in.
    newest: RoundNumber,
    /// Rounds in a row that waited for it in vain.
    missed: u8,
}

/// Peers whose commitments arrived lately, in time or late.
///
/// A newcomer is on no roster, and may be slower than the members. A round that ends as soon as all
/// members have committed would never let it in. So its late commitment makes the next round wait
/// for it.
#[derive(Debug, Default)]
pub(super) struct RecentCommitters(BTreeMap<PeerId, Committer>);

impl RecentCommitters {
    /// A commitment arrived.
    pub(super) fn committed(&mut self, peer: PeerId, round: RoundNumber, in_time: bool) {
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&peer) {
            return;
        }
        let committer = self.0.entry(peer).or_insert(Committer {
            newest: round,
            missed: 0,
        });
        committer.newest = committer.newest.max(round);
        if in_time {
            committer.missed = 0;
        }
    }

    /// A round waited for this peer in vain.
    pub(super) fn missed(&mut self, peer: &PeerId) {
        if let Some(committer) = self.0.get_mut(peer) {
            committer.missed = committer.missed.saturating_add(1);
        }
    }

    /// Peers that `round` should wait for. They committed in it or in the round before, and missed
    /// fewer than [`MAX_MISSED`] rounds in a row.
    pub(super) fn expected(&self, round: RoundNumber) -> impl Iterator<Item = PeerId> + '_ {
        self.0
            .iter()
            .filter(move |(_, committer)| {
                committer.newest.next() >= round && committer.missed < MAX_MISSED
            })
            .map(|(peer, _)| *peer)
    }

    /// Forgets peers whose last commitment is several rounds older than `round`.
    pub(super) fn forget_before(&mut self, round: RoundNumber) {
        let remembered = u64::from(MAX_MISSED);
        self.0
            .retain(|_, committer| committer.newest.0.saturating_add(remembered) >= round.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fixtures::peer;

    fn expects(recent: &RecentCommitters, round: u64) -> bool {
        recent.expected(RoundNumber(round)).any(|it| it == peer(1))
    }

    #[test]
    fn the_round_after_a_late_commitment_waits_for_its_peer() {
        let mut recent = RecentCommitters::default();
        recent.committed(peer(1), RoundNumber(4), false);
        assert!(expects(&recent, 5));
        assert!(!expects(&recent, 6));
    }

    #[test]
    fn a_peer_that_keeps_missing_rounds_is_waited_for_again_once_it_is_in_time() {
        let mut recent = RecentCommitters::default();
        for round in 0..3 {
            recent.committed(peer(1), RoundNumber(round), false);
            assert!(expects(&recent, round + 1));
            recent.missed(&peer(1));
        }
        recent.committed(peer(1), RoundNumber(3), false);
        assert!(!expects(&recent, 4));
        recent.committed(peer(1), RoundNumber(4), true);
        assert!(expects(&recent, 5));
    }
}
