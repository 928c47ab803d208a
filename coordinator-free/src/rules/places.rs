//! Who may commit in a round: a function of decided history.
//!
//! A round has a fixed number of places. A few go to newcomers, drawn among the tickets of earlier
//! rounds; the others to members. What anybody else commits to is dropped before its signature is
//! looked at, so a crowd fills nothing. Nobody can make a key for a place: a ticket is decided two
//! rounds before the seed that draws it is known.
//!
//! Members take turns if there are more of them than places. Each round adds a member's share to
//! its `turn`, and each of the first [`Limits::contributions`] places takes a whole turn away. So
//! places follow weights, in every stretch of rounds. A member's share is at least a quarter of the
//! average, so that who has earned little yet gets to earn more.

use std::collections::BTreeMap;

use weal_proto::manifest::Limits;
use weal_proto::{PeerId, RoundNumber, Seed, SlotId, limits};

use crate::rules::beacon;
use crate::rules::ledger::{Account, Ledger};

/// One place in this many is for newcomers.
const NEWCOMERS_PART: usize = 8;
/// A quarter more places than contributions: some holders are absent or late.
const SPARE_PART: usize = 4;
/// A ticket that is decided in round t draws from round t + this many on.
const DRAWS_AFTER: u64 = 2;
/// A member keeps its place in the line for this many rounds without a word in decided rounds. More
/// than the rounds that an attestation may be late, so that no proposer can take it away.
const SILENT_ROUNDS: u64 = limits::LATE_ROUNDS + 1;
/// A member's share is at least one part in this many of the average.
const LEAST_PART: u64 = 4;

/// The places of a round. Newcomers have the first ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    holders: Vec<PeerId>,
    slots: BTreeMap<PeerId, SlotId>,
    newcomers: usize,
}

impl Places {
    /// The places of `round`.
    pub(crate) fn of(round: RoundNumber, seed: Seed, ledger: &Ledger, limits: &Limits) -> Self {
        let count = count(limits);
        let newcomers = newcomers(round, seed, ledger, (count / NEWCOMERS_PART).max(1));
        let mut members: Vec<_> = in_line(round, ledger).collect();
        members.sort_by_cached_key(|(peer, account)| {
            (
                std::cmp::Reverse(account.turn),
                beacon::rank(seed, *peer),
                *peer,
            )
        });
        let of_members = count.saturating_sub(newcomers.len());
        let members = members.into_iter().take(of_members).map(|(peer, _)| peer);
        let first = newcomers.len();
        let holders: Vec<_> = newcomers.into_iter().chain(members).collect();
        let slots = (0..=u8::MAX).map(SlotId);
        Self {
            slots: holders.iter().copied().zip(slots).collect(),
            holders,
            newcomers: first,
        }
    }

    /// The place that a peer holds.
    pub fn slot_of(&self, peer: &PeerId) -> Option<SlotId> {
        self.slots.get(peer).copied()
    }

    /// The peer that holds a place.
    pub fn holder(&self, slot: SlotId) -> Option<PeerId> {
        self.holders.get(slot.index()).copied()
    }

    /// The holders by rising place.
    pub fn iter(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.holders.iter().copied()
    }

    /// The number of places that somebody holds.
    pub const fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether nobody holds a place.
    pub const fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// The newcomers that a ticket won a place for. Each has used up its ticket.
    pub fn newcomers(&self) -> &[PeerId] {
        self.holders.get(..self.newcomers).unwrap_or_default()
    }

    /// The members that hold a place.
    pub fn members(&self) -> &[PeerId] {
        self.holders.get(self.newcomers..).unwrap_or_default()
    }
}

/// The number of places: contributions and a quarter more, but at most `limits.peers`.
fn count(limits: &Limits) -> usize {
    let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    let wanted = size(limits.contributions);
    wanted
        .saturating_add(wanted.div_ceil(SPARE_PART))
        .min(size(limits.peers))
        .min(limits::SLOTS)
}

/// The tickets that win: the oldest first, and of those decided in one round in the order of the
/// seed.
fn newcomers(round: RoundNumber, seed: Seed, ledger: &Ledger, most: usize) -> Vec<PeerId> {
    let mut waiting: Vec<_> = ledger
        .tickets()
        .filter(|(peer, decided)| {
            let ripe = decided.0.saturating_add(DRAWS_AFTER) <= round.0;
            ripe && !ledger.is_member(peer) && !ledger.is_banned(peer)
        })
        .collect();
    waiting.sort_by_cached_key(|(peer, decided)| (*decided, beacon::rank(seed, *peer), *peer));
    waiting
        .into_iter()
        .take(most)
        .map(|(peer, _)| peer)
        .collect()
}

/// Members of whom a decided round holds a word from lately.
fn in_line(round: RoundNumber, ledger: &Ledger) -> impl Iterator<Item = (PeerId, &Account)> {
    ledger.iter().filter(move |(_, account)| {
        account.member && account.seen_until.0.saturating_add(SILENT_ROUNDS) >= round.0
    })
}

/// What a round with these places changes about its members' turns.
pub(crate) fn turns(
    round: RoundNumber,
    places: &Places,
    ledger: &Ledger,
    limits: &Limits,
) -> BTreeMap<PeerId, i64> {
    let in_line: Vec<_> = in_line(round, ledger)
        .map(|(peer, account)| (peer, account.turn, account.weight))
        .collect();
    let room = usize::try_from(limits.contributions).unwrap_or(usize::MAX);
    let paying = places.members().len().min(room);
    if in_line.len() <= paying {
        return in_line.into_iter().map(|(peer, _, _)| (peer, 0)).collect();
    }
    let sum: u128 = in_line
        .iter()
        .map(|(_, _, weight)| u128::from(*weight))
        .sum();
    let members = u128::try_from(in_line.len()).unwrap_or(u128::MAX);
    let average = u64::try_from(sum.checked_div(members).unwrap_or(0)).unwrap_or(u64::MAX);
    let share = |weight: u64| i128::from(weight.max(average / LEAST_PART).max(1));
    let whole: i128 = in_line.iter().map(|(_, _, weight)| share(*weight)).sum();
    let each = i128::try_from(paying).unwrap_or(i128::MAX);
    let pays: std::collections::BTreeSet<_> = places.members().iter().take(paying).collect();
    in_line
        .iter()
        .map(|(peer, turn, weight)| {
            let gained = i128::from(*turn) + share(*weight).saturating_mul(each);
            let left = gained - if pays.contains(peer) { whole } else { 0 };
            let bound = whole.saturating_mul(2).min(i128::from(i64::MAX));
            (*peer, i64::try_from(left.clamp(-bound, bound)).unwrap_or(0))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::ledger::Outcome;
    use crate::sim::fixtures::{manifest, peer};

    fn limits(contributions: u32) -> Limits {
        Limits {
            contributions,
            blob_bytes: 1,
            peers: 256,
        }
    }

    fn places(round: u64, ledger: &Ledger, contributions: u32) -> Places {
        let seed = Seed::from([round as u8; 32]);
        Places::of(RoundNumber(round), seed, ledger, &limits(contributions))
    }

    fn founders(count: u8) -> Ledger {
        let numbers: Vec<u8> = (1..=count).collect();
        Ledger::genesis(&manifest(&numbers))
    }

    /// Plays rounds in which everybody attests, and counts the paid places of each peer.
    fn counted(ledger: &mut Ledger, rounds: u64, contributions: u32) -> BTreeMap<PeerId, u64> {
        let rules = manifest(&[1]).membership.clone();
        let mut counts = BTreeMap::new();
        for round in 0..rounds {
            let places = places(round, ledger, contributions);
            for peer in places.members().iter().take(contributions as usize) {
                *counts.entry(*peer).or_default() += 1;
            }
            let outcome = Outcome {
                attesters: ledger.iter().map(|(peer, _)| peer).collect(),
                turns: turns(RoundNumber(round), &places, ledger, &limits(contributions)),
                ..Outcome::default()
            };
            ledger.apply(RoundNumber(round), &outcome, &rules);
        }
        counts
    }

    #[test]
    fn every_member_has_a_place_when_there_are_enough() {
        let ledger = founders(4);
        let places = places(0, &ledger, 4);
        assert_eq!((places.len(), places.newcomers()), (4, &[][..]));
        for (slot, holder) in places.iter().enumerate() {
            assert_eq!(places.slot_of(&holder), Some(SlotId(slot as u8)));
        }
        assert_eq!(places.slot_of(&peer(9)), None);
    }

    #[test]
    fn members_of_equal_weight_take_turns_equally() {
        let counts = counted(&mut founders(10), 100, 4);
        assert_eq!(counts.values().sum::<u64>(), 400);
        assert!(
            counts.values().all(|count| (39..=41).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_crowd_of_tickets_gets_the_few_places_for_newcomers_in_the_order_they_came() {
        let mut ledger = founders(4);
        let rules = manifest(&[1]).membership.clone();
        let with_tickets = |peers: std::ops::Range<u8>| Outcome {
            attesters: (1..=4).map(peer).collect(),
            tickets: peers.map(peer).collect(),
            ..Outcome::default()
        };
        ledger.apply(RoundNumber(0), &with_tickets(10..13), &rules);
        assert!(places(1, &ledger, 16).newcomers().is_empty());
        ledger.apply(RoundNumber(1), &with_tickets(13..16), &rules);
        let drawn = places(2, &ledger, 16).newcomers().to_vec();
        assert_eq!(drawn.len(), 2);
        assert!(
            drawn
                .iter()
                .all(|winner| (10..13).map(peer).any(|it| it == *winner))
        );
        let used = Outcome {
            placed: drawn.iter().copied().collect(),
            ..with_tickets(0..0)
        };
        ledger.apply(RoundNumber(2), &used, &rules);
        let next = places(3, &ledger, 16).newcomers().to_vec();
        assert_eq!(next.len(), 2);
        assert!(next.iter().all(|winner| !drawn.contains(winner)));
    }

    #[test]
    fn a_silent_member_loses_its_place_and_no_absence_of_one_proposer_can_take_it() {
        let mut ledger = founders(4);
        let mut rules = manifest(&[1]).membership.clone();
        rules.absence_rounds = 100;
        let outcome = Outcome {
            attesters: [1, 2, 3].map(peer).into(),
            ..Outcome::default()
        };
        for round in 0..=SILENT_ROUNDS {
            assert!(
                places(round, &ledger, 8).slot_of(&peer(4)).is_some(),
                "{round}"
            );
            ledger.apply(RoundNumber(round), &outcome, &rules);
        }
        assert_eq!(
            places(SILENT_ROUNDS + 1, &ledger, 8).slot_of(&peer(4)),
            None
        );
    }
}
