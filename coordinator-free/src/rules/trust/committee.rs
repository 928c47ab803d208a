//! Which voters measure a contribution.
//!
//! The committee is drawn once the round is decided, by the seed that follows from the decision.
//! So a contributor does not know who will measure it, and a liar cannot choose to measure its
//! friends only.
//!
//! A number of points lies evenly spaced on the line of all weights, voter after voter in an order
//! of the draw's own, from a random start. Each point is one voice of the voter it falls on. So a
//! voter's voices are its share of the weight times their number, give or take one: a weight that
//! is split among many names has no more voices, and a voter with much weight measures once and
//! speaks for it. The contributor does not measure itself; [`own_voices_ppm`] says what stands for
//! its voice.

use std::collections::BTreeMap;

use weal_proto::manifest::PPM;
use weal_proto::{PeerId, Seed};

const CONTEXT: &str = "commonweal committee v1";

/// Those of `voters`, with these weights, that measure one peer's contribution, and how many of
/// `voices` each has.
pub(crate) fn committee(
    voters: impl Iterator<Item = (PeerId, u64)>,
    seed: Seed,
    contributor: &PeerId,
    voices: u32,
) -> BTreeMap<PeerId, u64> {
    let rank = |peer: &PeerId| {
        let bytes = [*seed.as_bytes(), *contributor.as_bytes(), *peer.as_bytes()].concat();
        blake3::derive_key(CONTEXT, &bytes)
    };
    let mut voters: Vec<_> = voters
        .filter(|(peer, _)| peer != contributor)
        .map(|(peer, weight)| (rank(&peer), peer, u128::from(weight)))
        .collect();
    voters.sort_unstable();
    let total: u128 = voters.iter().map(|(_, _, weight)| weight).sum();
    let start = start(&rank(contributor), total);
    let voices = u128::from(voices.max(1));
    // The number of points before a place on the line. Point k lies at
    // (start + k · total) / voices.
    let before = |place: u128| {
        let ahead = place.saturating_mul(voices).saturating_sub(start);
        ahead.div_ceil(total.max(1))
    };
    let mut committee = BTreeMap::new();
    let mut place = 0_u128;
    for (_, peer, weight) in voters {
        let end = place.saturating_add(weight);
        let points = before(end).saturating_sub(before(place));
        if let Some(points) = u64::try_from(points).ok().filter(|points| *points > 0) {
            committee.insert(peer, points);
        }
        place = end;
    }
    committee
}

/// The voices that stand for what a contributor would say of its own work, in ppm of one. They are
/// 0 if it is not one of `voters`.
///
/// They are twice its share of the others' weight, and at most nine tenths of a typical voter's. A
/// peer that a liar has cost weight keeps them, and one with next to no weight has next to none. A
/// typical voter is the one that a random piece of the others' weight belongs to, so splitting a
/// weight among many names hardly changes it. Own voices matter from one whole voice on. Six equal
/// voters would have just one, and without the nine tenths small differences in weight would
/// decide there.
pub(crate) fn own_voices_ppm(
    voters: impl Iterator<Item = (PeerId, u64)>,
    contributor: &PeerId,
    voices: u32,
) -> u64 {
    let (mut own, mut others, mut squares) = (0_u128, 0_u128, 0_u128);
    for (peer, weight) in voters {
        let weight = u128::from(weight);
        if peer == *contributor {
            own = weight;
        } else {
            others = others.saturating_add(weight);
            squares = squares.saturating_add(weight.saturating_mul(weight));
        }
    }
    let others = others.max(1);
    let typical = squares.checked_div(others).unwrap_or(0);
    let most = typical.saturating_mul(9).checked_div(10).unwrap_or(0);
    let voices = u128::from(voices).saturating_mul(PPM.into());
    let own = own.saturating_mul(2).min(most).saturating_mul(voices);
    u64::try_from(own.checked_div(others).unwrap_or(0)).unwrap_or(u64::MAX)
}

/// A random number below `total`.
fn start(random: &[u8; 32], total: u128) -> u128 {
    let (number, _) = random.split_first_chunk().unwrap_or((&[0; 16], &[]));
    u128::from_le_bytes(*number).checked_rem(total).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(n: u16) -> PeerId {
        (*blake3::hash(&n.to_le_bytes()).as_bytes()).into()
    }

    fn seed(n: u32) -> Seed {
        (*blake3::hash(&n.to_le_bytes()).as_bytes()).into()
    }

    fn roster(weights: &[u64]) -> impl Iterator<Item = (PeerId, u64)> + Clone {
        (0..).map(peer).zip(weights.iter().copied())
    }

    #[test]
    fn equal_voters_measure_once_each_and_the_contributor_never() {
        let roster = roster(&[10; 9]);
        for n in 0..50 {
            let drawn = committee(roster.clone(), seed(n), &peer(3), 5);
            assert_eq!(drawn.len(), 5);
            assert!(drawn.values().all(|voices| *voices == 1));
            assert!(!drawn.contains_key(&peer(3)));
        }
    }

    #[test]
    fn few_voters_share_all_voices() {
        let drawn = committee(roster(&[10; 3]), seed(1), &peer(0), 5);
        assert_eq!(drawn.len(), 2);
        assert_eq!(drawn.values().sum::<u64>(), 5);
        assert!(committee(roster(&[10]), seed(1), &peer(0), 5).is_empty());
    }

    #[test]
    fn a_contributor_has_voices_about_itself_only_among_few_voters() {
        let own = |weights: &[u64]| own_voices_ppm(roster(weights), &peer(0), 5);
        let equal = |voters: usize| own(&vec![10_000; voters]);
        let found = [1, 2, 4, 5, 6, 16].map(equal);
        assert_eq!(
            found,
            [0, 4_500_000, 1_500_000, 1_125_000, 900_000, 300_000]
        );
        // Whoever has lost weight keeps them, a newcomer has none, and small names change nothing.
        assert_eq!(own(&[5_000, 10_000, 10_000, 10_000]), 1_500_000);
        assert_eq!(own(&[1_000, 10_000, 10_000, 10_000]), 333_333);
        assert_eq!(own_voices_ppm(roster(&[10; 4]), &peer(9), 5), 0);
        let split = [&[10_000; 3][..], &[100; 100]].concat();
        assert!(
            (1_000_001..1_500_000).contains(&own(&split)),
            "{}",
            own(&split)
        );
    }

    #[test]
    fn everybody_is_drawn_as_often_as_its_weight() {
        let roster = roster(&[1, 2, 3, 4, 10]);
        let mut voices = BTreeMap::new();
        for n in 0..2_000 {
            for (peer, count) in committee(roster.clone(), seed(n), &peer(99), 4) {
                *voices.entry(peer).or_insert(0) += count;
            }
        }
        for (n, weight) in [1_u64, 2, 3, 4, 10].into_iter().enumerate() {
            let (found, expected) = (voices[&peer(n as u16)], weight * 400);
            assert!(
                found.abs_diff(expected) < 120,
                "{n}: {found}, not about {expected}"
            );
        }
    }

    proptest! {
        /// However a weight is split among names, it gets its share of the voices, within one.
        #[test]
        fn voices_follow_the_weight_and_not_the_names(
            honest in prop::collection::vec(1..1_000_u64, 1..20),
            liars in prop::collection::vec(1..10_u64, 1..100),
            voices in 1..16_u32,
            n: u32,
        ) {
            let weights = [honest.clone(), liars.clone()].concat();
            let total: u64 = weights.iter().sum();
            let drawn = committee(roster(&weights), seed(n), &peer(9_999), voices);
            prop_assert_eq!(drawn.values().sum::<u64>(), u64::from(voices));
            for (n, weight) in weights.iter().enumerate() {
                let found = drawn.get(&peer(n as u16)).copied().unwrap_or(0);
                let share = weight * u64::from(voices) / total;
                prop_assert!(found == share || found == share + 1, "{} of {}", found, share);
            }
        }
    }
}
