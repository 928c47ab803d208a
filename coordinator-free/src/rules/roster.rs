//! Who may vote in a round, and whose turn it is to propose.

use std::collections::BTreeMap;

use weal_proto::{PeerId, Seed, View, Weight, limits};

/// The agreement engine multiplies weights by 3 without room to spare: the total stays below this.
const MOST_TOTAL: u64 = 1 << 60;
const PROPOSER_CONTEXT: &str = "commonweal proposer v1";

/// The voters of a round and what their votes count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    voters: BTreeMap<PeerId, u64>,
    total: u64,
}

impl Roster {
    /// The roster of these weights. Weights of 0 are left out; of more than [`limits::VOTERS`], the
    /// heaviest are taken (of equal ones, those with the smaller id). All weights are halved as
    /// often as keeps their sum below 2⁶⁰.
    pub fn new(weights: impl IntoIterator<Item = (PeerId, u64)>) -> Self {
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

    /// How many may vote.
    pub fn len(&self) -> usize {
        self.voters.len()
    }

    /// What a peer's vote counts: 0 when it has none.
    pub fn weight(&self, peer: &PeerId) -> u64 {
        self.voters.get(peer).copied().unwrap_or(0)
    }

    /// Whether a peer may vote.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.voters.contains_key(peer)
    }

    /// Voters and their weights, by peer.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, u64)> + '_ {
        self.voters.iter().map(|(peer, weight)| (*peer, *weight))
    }

    /// What all votes count together.
    pub const fn total(&self) -> Weight {
        Weight(self.total)
    }

    /// Whether a weight is more than two thirds of the total.
    pub fn is_quorum(&self, weight: u128) -> bool {
        weight.saturating_mul(3) > u128::from(self.total).saturating_mul(2)
    }

    /// Whether a weight is more than a third of the total: at least one honest voter is behind it.
    pub fn has_honest(&self, weight: u128) -> bool {
        weight.saturating_mul(3) > u128::from(self.total)
    }

    /// The weight of some voters together; each counts once, strangers count nothing.
    pub fn weigh<'a>(&self, peers: impl IntoIterator<Item = &'a PeerId>) -> u128 {
        let distinct: std::collections::BTreeSet<_> = peers.into_iter().collect();
        distinct
            .into_iter()
            .map(|peer| u128::from(self.weight(peer)))
            .sum()
    }

    /// Who proposes in a view, drawn from the round's seed.
    ///
    /// The views of a round go through the voters in a weighted random order without putting back,
    /// and begin anew (with another draw) when all had their turn. So a heavy voter is likelier to
    /// propose first, and every voter proposes within as many views as there are voters, however
    /// many others are silent.
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

/// The voter in whose share of the total the point lies.
fn pick(voters: &BTreeMap<PeerId, u64>, point: u64) -> Option<PeerId> {
    let mut end = 0_u64;
    voters.iter().find_map(|(peer, weight)| {
        end = end.saturating_add(*weight);
        (point < end).then_some(*peer)
    })
}

/// A number below `total`. The bias of the remainder is below total / 2¹²⁸.
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
    fn the_total_stays_in_the_engines_range() {
        let roster = Roster::new((0..200).map(|n| (peer(n), u64::MAX)));
        assert!(roster.total().0 < MOST_TOTAL);
        assert_eq!(roster.len(), 200);
    }

    #[test]
    fn no_more_than_the_limit_vote_and_the_heaviest_stay() {
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
            let proposers: std::collections::BTreeSet<_> = (0..4)
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
    fn nobody_proposes_where_nobody_votes() {
        assert_eq!(Roster::default().proposer(&seed(1), View(0)), None);
    }
}
