//! Who may vote in a round, and who proposes in which view.

use std::collections::{BTreeMap, BTreeSet};

use weal_proto::snapshot::VoterState;
use weal_proto::{PeerId, View, Weight, limits};

/// The agreement engine multiplies weights by 3 in 64 bits, so the total must stay below this.
const MOST_TOTAL: u64 = 1 << 60;

/// The voters of a round, the weight of each vote, and whose turn it is to propose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    voters: BTreeMap<PeerId, u64>,
    priorities: BTreeMap<PeerId, i64>,
    total: u64,
}

impl Roster {
    /// The roster of the peers with the given weights. Each has the priority 0.
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
        Self {
            voters,
            priorities: BTreeMap::new(),
            total,
        }
    }

    /// The same voters with these priorities. They are moved so that their average is 0 (rounded
    /// down), and none is further from it than twice the total weight.
    pub(crate) fn with_priorities(mut self, priority: impl Fn(&PeerId) -> i64) -> Self {
        let raw: Vec<_> = self
            .voters
            .keys()
            .map(|peer| (*peer, priority(peer)))
            .collect();
        let sum: i128 = raw.iter().map(|(_, priority)| i128::from(*priority)).sum();
        let count = i128::try_from(raw.len().max(1)).unwrap_or(1);
        let average = sum.div_euclid(count);
        let bound = i128::from(self.total).saturating_mul(2);
        self.priorities = raw
            .into_iter()
            .map(|(peer, priority)| {
                let centred = (i128::from(priority) - average).clamp(-bound, bound);
                (peer, i64::try_from(centred).unwrap_or(0))
            })
            .collect();
        self
    }

    /// The roster as a snapshot holds it.
    pub(crate) fn states(&self) -> Vec<VoterState> {
        let state = |(peer, weight)| VoterState {
            peer,
            weight,
            priority: self.priority(&peer),
        };
        self.iter().map(state).collect()
    }

    /// The roster that a snapshot holds.
    pub(crate) fn of_states(states: &[VoterState]) -> Self {
        let weights = states.iter().map(|voter| voter.weight);
        Self {
            voters: states.iter().map(|one| (one.peer, one.weight)).collect(),
            priorities: states.iter().map(|one| (one.peer, one.priority)).collect(),
            total: weights.fold(0, u64::saturating_add),
        }
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

    /// Whether a weight is more than half of the total.
    pub fn is_majority(&self, weight: u128) -> bool {
        weight.saturating_mul(2) > u128::from(self.total)
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

    /// The proposer of a view: weighted round robin, as in Tendermint.
    ///
    /// Each view adds to every voter's priority its weight. The voter with the highest priority
    /// proposes (of equal ones the smaller id) and pays the total weight. So in every stretch of
    /// views a voter proposes in proportion to its weight, and nothing that a proposer may choose
    /// changes whose turn is next.
    pub fn proposer(&self, view: View) -> Option<PeerId> {
        self.proposers_from(view).next()
    }

    /// The proposers of a view and of those after it. It ends if nobody may vote.
    pub(crate) fn proposers_from(&self, view: View) -> impl Iterator<Item = PeerId> {
        let mut turns = Turns::of(self);
        (0..view.0).for_each(|_| {
            turns.next();
        });
        std::iter::from_fn(move || turns.next())
    }

    /// The priorities after a round: its view 0 counts, whichever view decided it.
    pub(crate) fn priorities_after_round(&self) -> BTreeMap<PeerId, i64> {
        let mut turns = Turns::of(self);
        turns.next();
        let small = |p: i128| i64::try_from(p).unwrap_or(if p > 0 { i64::MAX } else { i64::MIN });
        turns
            .voters
            .into_iter()
            .map(|(peer, _, priority)| (peer, small(priority)))
            .collect()
    }

    /// A voter's priority at the start of the round.
    pub(crate) fn priority(&self, peer: &PeerId) -> i64 {
        self.priorities.get(peer).copied().unwrap_or(0)
    }
}

/// Proposers, view after view.
struct Turns {
    /// Voters with weight and priority, by rising id.
    voters: Vec<(PeerId, i128, i128)>,
    total: i128,
}

impl Turns {
    fn of(roster: &Roster) -> Self {
        let voters = roster
            .iter()
            .map(|(peer, weight)| (peer, weight.into(), roster.priority(&peer).into()));
        Self {
            voters: voters.collect(),
            total: roster.total.into(),
        }
    }

    fn next(&mut self) -> Option<PeerId> {
        for (_, weight, priority) in &mut self.voters {
            *priority += *weight;
        }
        // The last maximum of the reversed list is the smallest id.
        let (peer, _, priority) = self.voters.iter_mut().rev().max_by_key(|(_, _, p)| *p)?;
        *priority -= self.total;
        Some(*peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        [n; 32].into()
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

    fn proposers(roster: &Roster, views: u32) -> BTreeMap<PeerId, u32> {
        let mut counts = BTreeMap::new();
        for view in 0..views {
            *counts
                .entry(roster.proposer(View(view)).unwrap())
                .or_default() += 1;
        }
        counts
    }

    #[test]
    fn views_are_shared_by_weight() {
        let roster = Roster::new([(peer(1), 1), (peer(2), 3), (peer(3), 6)]);
        let counts = proposers(&roster, 100);
        assert_eq!(counts, [(peer(1), 10), (peer(2), 30), (peer(3), 60)].into());
    }

    #[test]
    fn the_first_proposers_of_rounds_are_shared_by_weight_whatever_view_decides() {
        let mut roster = Roster::new([(peer(1), 5), (peer(2), 20), (peer(3), 25)]);
        let mut counts = BTreeMap::new();
        for _ in 0..100 {
            *counts.entry(roster.proposer(View(0)).unwrap()).or_insert(0) += 1;
            let after = roster.priorities_after_round();
            roster = Roster::new(roster.iter()).with_priorities(|peer| after[peer]);
        }
        assert_eq!(counts, [(peer(1), 10), (peer(2), 40), (peer(3), 50)].into());
    }

    #[test]
    fn no_silent_voter_keeps_the_others_from_proposing() {
        let roster = Roster::new((1..=9).map(|n| (peer(n), 1)));
        assert_eq!(proposers(&roster, 9).len(), 9);
    }

    #[test]
    fn priorities_are_centred_and_bounded() {
        let roster = Roster::new([(peer(1), 1), (peer(2), 1)]);
        let moved = roster
            .clone()
            .with_priorities(|it| if *it == peer(1) { i64::MAX } else { 7 });
        assert_eq!(moved.priority(&peer(1)), 4);
        assert_eq!(moved.priority(&peer(2)), -4);
        assert_eq!(moved.proposer(View(0)), Some(peer(1)));
    }

    #[test]
    fn a_roster_without_voters_has_no_proposer() {
        assert_eq!(Roster::default().proposer(View(0)), None);
    }
}
