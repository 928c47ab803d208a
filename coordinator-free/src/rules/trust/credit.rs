//! The credit of a settled round: what each contributor earned, within the pot.

use std::collections::BTreeMap;

use weal_proto::PeerId;
use weal_proto::manifest::Trust;

use super::ONE;

/// The credit that each contributor of a settled round gets for what it earned, in ppm of `credit`.
/// All together get at most the pot: then it is shared out in proportion.
pub(crate) fn credits(
    earned: &BTreeMap<PeerId, i32>,
    credit: u64,
    rules: &Trust,
) -> BTreeMap<PeerId, u64> {
    let positive = |(peer, earned): (&PeerId, &i32)| Some((*peer, u64::try_from(*earned).ok()?));
    let earners: Vec<_> = earned.iter().filter_map(positive).collect();
    let sum: u128 = earners.iter().map(|(_, score)| u128::from(*score)).sum();
    let one = u128::from(ONE.unsigned_abs());
    let wanted = sum.saturating_mul(credit.into()).checked_div(one);
    let pot = u128::from(rules.pot);
    let (unit, whole) = if wanted.is_some_and(|wanted| wanted > pot) {
        (pot, sum)
    } else {
        (credit.into(), one)
    };
    let share = |score: u64| unit.saturating_mul(score.into()).checked_div(whole.max(1));
    earners
        .into_iter()
        .map(|(peer, score)| (peer, share(score).unwrap_or(0)))
        .map(|(peer, share)| (peer, u64::try_from(share).unwrap_or(u64::MAX)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: i32 = 1_000_000;

    fn rules() -> Trust {
        Trust::default()
    }

    fn peer(n: u8) -> PeerId {
        [n; 32].into()
    }

    #[test]
    fn a_typical_contribution_earns_the_credit_and_a_crowd_shares_the_pot() {
        let of = |scores: &[i32]| {
            let scores = (1..).map(peer).zip(scores.iter().copied()).collect();
            let earned = credits(&scores, 5_000, &rules());
            (1..=scores.len() as u8)
                .map(|n| earned.get(&peer(n)).copied())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&[ONE, ONE / 2]), [Some(5_000), Some(2_500)]);
        assert_eq!(of(&[ONE, 1, -1, 0]), [Some(5_000), Some(0), None, Some(0)]);
        let crowd = of(&[ONE; 40]);
        assert_eq!(crowd.iter().flatten().sum::<u64>(), 50_000);
        assert_eq!(crowd[0], Some(1_250));
    }

    proptest! {
        #[test]
        fn all_together_never_earn_more_than_the_pot(
            scores in prop::collection::vec(any::<i32>(), 0..60),
            credit in 1..1_u64 << 40, pot in 1..1_u64 << 40,
        ) {
            let rules = Trust { pot, ..rules() };
            let scores = (0..).map(peer).zip(scores).collect();
            let earned = credits(&scores, credit, &rules);
            prop_assert!(earned.values().sum::<u64>() <= pot);
        }
    }
}
