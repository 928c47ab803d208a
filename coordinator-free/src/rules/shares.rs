//! Which samples each peer trains on: positions in one endless sequence, each dealt until it is
//! trained on once.
//!
//! The trainer turns a position into a window of text, epoch after epoch, each in an order of its
//! own. Here a position is only a number. At the start of a round, every member that was seen
//! lately gets a share of as many positions as it can train on in a round. What a share's owner did
//! not train on, by its decided commitment, goes back and is dealt first in the next round. So the
//! shares of a round never overlap, unlike peers may take unlike numbers of samples, and no
//! position is passed over. All of it follows from decided rounds alone.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use weal_proto::snapshot::SampleRange;
use weal_proto::{PeerId, limits};

use crate::interface::share::Share;

/// Deals positions round by round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dealer {
    /// Positions that were dealt and not trained on: rising, and not adjacent.
    returned: Vec<Range<u64>>,
    /// The first position that was never dealt, or that came back with all that follow it.
    next: u64,
}

impl Dealer {
    /// Deals `quota` positions to each peer, in this order.
    pub(crate) fn deal(&self, peers: &[PeerId], quota: u64) -> BTreeMap<PeerId, Share> {
        let mut deck = Deck::of(self);
        let mut shares: BTreeMap<_, _> = peers
            .iter()
            .map(|peer| (*peer, deck.take(quota)))
            .map(|(peer, spans)| (peer, Share { spans, ahead: 0 }))
            .collect();
        for share in shares.values_mut() {
            share.ahead = deck.next;
        }
        shares
    }

    /// The first position beyond every share of a round that deals `quota` to each peer.
    pub(crate) fn ahead(&self, peers: usize, quota: u64) -> u64 {
        let mut deck = Deck::of(self);
        for _ in 0..peers {
            deck.take(quota);
        }
        deck.next
    }

    /// Ends a round that dealt `quota` positions to each of these peers. `used` tells how many of
    /// its samples each peer with a decided contribution trained on.
    pub(crate) fn settle(&mut self, peers: &[PeerId], quota: u64, used: &BTreeMap<PeerId, u64>) {
        let mut deck = Deck::of(self);
        let mut returned = Vec::new();
        for peer in peers {
            let share = Share {
                spans: deck.take(quota),
                ahead: 0,
            };
            returned.extend(share.rest(used.get(peer).copied().unwrap_or(0)));
        }
        returned.extend(deck.returned);
        returned.retain(|span| span.start < span.end);
        returned.sort_unstable_by_key(|span| span.start);
        self.next = deck.next;
        self.returned = merged(returned);
        if let Some(last) = self.returned.pop_if(|last| last.end == self.next) {
            self.next = last.start;
        }
        // The highest are dropped: they are not trained on in their epoch.
        self.returned.truncate(limits::RETURNED_SAMPLES);
    }

    /// The positions that were dealt and not trained on, and the first one that was never dealt.
    pub(crate) fn state(&self) -> (Vec<SampleRange>, u64) {
        let range = |range: &Range<u64>| SampleRange {
            start: range.start,
            end: range.end,
        };
        (self.returned.iter().map(range).collect(), self.next)
    }

    /// The dealer with this [state](Self::state).
    pub(crate) fn of_state(returned: &[SampleRange], next: u64) -> Self {
        Self {
            returned: returned.iter().map(|one| one.start..one.end).collect(),
            next,
        }
    }
}

/// Positions on their way into shares.
struct Deck {
    returned: VecDeque<Range<u64>>,
    next: u64,
}

impl Deck {
    fn of(dealer: &Dealer) -> Self {
        Self {
            returned: dealer.returned.iter().cloned().collect(),
            next: dealer.next,
        }
    }

    fn take(&mut self, mut count: u64) -> Vec<Range<u64>> {
        let mut taken: Vec<Range<u64>> = Vec::new();
        while count > 0 {
            let span = self.returned.pop_front().unwrap_or_else(|| {
                let fresh = self.next..self.next.saturating_add(count);
                self.next = fresh.end;
                fresh
            });
            let length = span.end.saturating_sub(span.start).min(count);
            if length == 0 {
                break;
            }
            let cut = span.start.saturating_add(length);
            if cut < span.end {
                self.returned.push_front(cut..span.end);
            }
            taken.push(span.start..cut);
            count -= length;
        }
        merged(taken)
    }
}

/// Joins spans that touch; they come rising.
fn merged(spans: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if last.end == span.start => last.end = span.end,
            _ => merged.push(span),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sim::fixtures::peer;
    use proptest::prelude::*;

    fn peers(numbers: &[u8]) -> Vec<PeerId> {
        numbers.iter().map(|n| peer(*n)).collect()
    }

    fn used(numbers: &[(u8, u64)]) -> BTreeMap<PeerId, u64> {
        numbers.iter().map(|(n, used)| (peer(*n), *used)).collect()
    }

    #[test]
    fn a_lone_peer_goes_through_all_positions_in_order() {
        let (mut dealer, alone) = (Dealer::default(), peers(&[1]));
        let mut next = 0;
        for done in [10, 3, 0, 7, 10] {
            let share = dealer.deal(&alone, 10).remove(&peer(1)).unwrap();
            assert_eq!(
                (share.spans, share.ahead),
                (vec![next..next + 10], next + 10)
            );
            dealer.settle(&alone, 10, &used(&[(1, done)]));
            next += done;
        }
    }

    #[test]
    fn what_a_slow_or_absent_peer_leaves_is_dealt_first_in_the_next_round() {
        let (mut dealer, all) = (Dealer::default(), peers(&[1, 2, 3]));
        dealer.settle(&all, 10, &used(&[(1, 4), (3, 10)]));
        let shares = dealer.deal(&all, 10);
        assert_eq!(shares[&peer(1)].spans, [4..14]);
        assert_eq!(shares[&peer(2)].spans, [14..20, 30..34]);
        assert_eq!(shares[&peer(3)].spans, [34..44]);
        assert_eq!((shares[&peer(1)].ahead, dealer.ahead(3, 10)), (44, 44));
    }

    #[test]
    fn a_claim_of_more_samples_than_were_dealt_takes_nobody_elses() {
        let (mut dealer, all) = (Dealer::default(), peers(&[1, 2]));
        dealer.settle(&all, 10, &used(&[(1, u64::MAX)]));
        assert_eq!(dealer.deal(&all, 10)[&peer(1)].spans, [10..20]);
    }

    #[test]
    fn the_end_of_all_positions_is_no_accident() {
        let mut dealer = Dealer {
            returned: Vec::new(),
            next: u64::MAX - 3,
        };
        let all = peers(&[1, 2]);
        assert_eq!(dealer.deal(&all, 10)[&peer(2)].spans, []);
        dealer.settle(&all, 10, &used(&[(1, 10), (2, 10)]));
        assert_eq!(dealer.next, u64::MAX);
    }

    proptest! {
        /// Whoever comes, goes, is slow or lies: shares of a round are disjoint, nothing is trained
        /// on twice, and nothing is passed over.
        #[test]
        fn every_position_is_trained_on_exactly_once(
            rounds in proptest::collection::vec(
                proptest::collection::btree_map(0u8..12, 0u64..40, 0..8),
                1..40,
            ),
        ) {
            const QUOTA: u64 = 25;
            let (mut dealer, mut trained) = (Dealer::default(), BTreeSet::new());
            for listed in &rounds {
                let numbers: Vec<u8> = listed.keys().rev().copied().collect();
                let order = peers(&numbers);
                let shares = dealer.deal(&order, QUOTA);
                for (n, done) in listed {
                    let spans = shares[&peer(*n)].spans.iter().cloned();
                    let positions: Vec<u64> = spans.flatten().collect();
                    prop_assert_eq!(positions.len() as u64, QUOTA);
                    for position in positions.into_iter().take(*done as usize) {
                        prop_assert!(trained.insert(position), "{} twice", position);
                    }
                }
                let listed: Vec<_> = listed.iter().map(|(n, d)| (*n, *d)).collect();
                dealer.settle(&order, QUOTA, &used(&listed));
                let waiting: u64 = dealer.returned.iter().map(|span| span.end - span.start).sum();
                prop_assert_eq!(trained.len() as u64 + waiting, dealer.next);
                prop_assert!(dealer.returned.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
    }
}
