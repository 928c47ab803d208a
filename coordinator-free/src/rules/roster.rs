//! Who may vote in a round, and who proposes in which view.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::{PeerId, Seed, View, Weight, limits};

/// The agreement engine multiplies weights by 3 in 64 bits, so the total must stay below this.
const MOST_TOTAL: u64 = 1 << 60;
const PROPOSER_CONTEXT: &str = "commonweal proposer v1";

/// The voters of a round and the weight of each vote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    voters: BTreeMap<PeerId, u64>,
    total: u64,
}

impl Roster {
    /// The roster of the peers with the given weights.
    ///
    /// Peers of weight 0 get no vote. If more than [`limits::VOTERS`] are left, the heaviest get
    /// one; of equal weights, the smaller id wins. If the sum is 2⁶⁰ or more, all weights are
    /// halved until it is less.
    pub(crate) fn new(weights: impl IntoIterator<Item = (PeerId, u64)>) -> Self {
        let mut heaviest: Vec<_> = weights
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .collect();
        heaviest.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        heaviest.truncate(limits::VOTERS);

        let sum: u128 = heaviest.iter().map(|(_, weight)| u128::from(*weight)).sum();
        let halvings = (0..u64::BITS)
            .find(|n| sum >> n < u128::from(MOST_TOTAL))
            .unwrap_or(u64::BITS - 1);
        let voters: BTreeMap<_, _> = heaviest
            .into_iter()
            .map(|(peer, weight)| (peer, weight >> halvings))
            .filter(|(_, w)| *w > 0)
            .collect();
        let total = voters
            .values()
            .fold(0_u64, |sum, weight| sum.saturating_add(*weight));
        Self { voters, total }
    }

    /// Whether nobody may vote.
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty()
    }

    /// The number of voters.
    pub fn len(&self) -> usize {
        self.voters.len()
    }

    /// How much a peer's vote counts; 0 if it has none.
    pub fn weight(&self, peer: &PeerId) -> u64 {
        self.voters.get(peer).copied().unwrap_or(0)
    }

    /// Whether a peer may vote.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.voters.contains_key(peer)
    }

    /// Voters and their weights, sorted by peer.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, u64)> + '_ {
        self.voters.iter().map(|(peer, weight)| (*peer, *weight))
    }

    /// The sum of all voters' weights.
    pub const fn total(&self) -> Weight {
        Weight(self.total)
    }

    /// Whether a weight is more than two thirds of the total, which is what a decision takes.
    pub fn is_quorum(&self, weight: u128) -> bool {
        weight.saturating_mul(3) > u128::from(self.total).saturating_mul(2)
    }

    /// Whether a weight is more than a third of the total. As long as dishonest voters have less
    /// than that, an honest voter is among its owners.
    pub fn has_honest(&self, weight: u128) -> bool {
        weight.saturating_mul(3) > u128::from(self.total)
    }

    /// The combined weight of some peers. Each counts once; peers without a vote count nothing.
    pub fn weigh<'a>(&self, peers: impl IntoIterator<Item = &'a PeerId>) -> u128 {
        let distinct: BTreeSet<_> = peers.into_iter().collect();
        distinct
            .into_iter()
            .map(|peer| u128::from(self.weight(peer)))
            .sum()
    }

    /// The proposer of a view, drawn from the round's seed.
    ///
    /// A round's views draw voters at random, weighted and without replacement. When every voter
    /// has had a turn, the draw starts again. So a heavy voter is likelier to propose early, and
    /// every voter proposes once in each cycle of [`len`](Self::len) views, even if all others are
    /// silent.
    pub fn proposer(&self, seed: &Seed, view: View) -> Option<PeerId> {
        let count = u32::try_from(self.voters.len())
            .ok()
            .filter(|count| *count > 0)?;
        let (cycle, turn) = (view.0 / count, view.0 % count);
        let mut left = self.voters.clone();
        let mut left_total = self.total;
        for drawn in 0..=turn {
            let peer = pick(&left, draw(seed, cycle, drawn, left_total))?;
            if drawn == turn {
                return Some(peer);
            }
            left_total = left_total.saturating_sub(left.remove(&peer).unwrap_or(0));
        }
        None
    }
}

/// The voter whose share of the total contains the point.
fn pick(voters: &BTreeMap<PeerId, u64>, point: u64) -> Option<PeerId> {
    let mut end = 0_u64;
    voters.iter().find_map(|(peer, weight)| {
        end = end.saturating_add(*weight);
        (point < end).then_some(*peer)
    })
}

/// A random number below `total`. The remainder's bias is less than total / 2¹²⁸.
fn draw(seed: &Seed, cycle: u32, turn: u32, total: u64) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(PROPOSER_CONTEXT);
    hasher
        .update(seed.as_bytes())
        .update(&cycle.to_le_bytes())
        .update(&turn.to_le_bytes());
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    let below = u128::from_le_bytes(bytes)
        .checked_rem(u128::from(total))
        .unwrap_or(0);
    u64::try_from(below).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        [n; 32].into()
    }

    fn seed(n: u32) -> Seed {
        blake3::hash(&n.to_le_bytes()).as_bytes().to_owned().into()
    }

    #[test]
    fn more_than_two_thirds_is_a_quorum() {
        let roster = Roster::new([(peer(1), 1), (peer(2), 1), (peer(3), 1)]);
        assert!(!roster.is_quorum(2));
        assert!(roster.is_quorum(3));
        assert!(!roster.has_honest(1));
        assert!(roster.has_honest(2));
    }

    #[test]
    fn the_total_stays_small_enough_for_the_engine() {
        let roster = Roster::new((0..200).map(|n| (peer(n), u64::MAX)));
        assert!(roster.total().0 < MOST_TOTAL);
        assert_eq!(roster.len(), 200);
    }

    #[test]
    fn only_the_heaviest_peers_up_to_the_limit_get_a_vote() {
        let voters = (0..300_u64).map(|n| {
            (
                PeerId::from(*blake3::hash(&n.to_le_bytes()).as_bytes()),
                n + 1,
            )
        });
        let roster = Roster::new(voters);
        assert_eq!(roster.len(), limits::VOTERS);
        assert_eq!(roster.iter().map(|(_, weight)| weight).min(), Some(45));
    }

    #[test]
    fn everyone_proposes_once_in_a_cycle() {
        let roster = Roster::new([(peer(1), 1), (peer(2), 1000), (peer(3), 7), (peer(4), 30)]);
        for cycle in 0..3 {
            let proposers: BTreeSet<_> = (0..4)
                .filter_map(|turn| roster.proposer(&seed(1), View(cycle * 4 + turn)))
                .collect();
            assert_eq!(proposers.len(), 4);
        }
    }

    #[test]
    fn first_proposers_are_drawn_by_weight() {
        let roster = Roster::new([(peer(1), 1), (peer(2), 3)]);
        let heavy = (0..1000)
            .filter(|n| roster.proposer(&seed(*n), View(0)) == Some(peer(2)))
            .count();
        assert!((700..800).contains(&heavy), "{heavy} of 1000");
    }

    #[test]
    fn a_roster_without_voters_has_no_proposer() {
        assert_eq!(Roster::default().proposer(&seed(1), View(0)), None);
    }
}
