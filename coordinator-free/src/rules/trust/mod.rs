//! How contributions are judged, and what follows from it: pure functions on integers.
//!
//! | file | holds |
//! |---|---|
//! | `admission` | which contributions a voter refuses in the round itself |
//! | `committee` | which voters measure a contribution |
//! | `measured` | what a committee said about a contribution |
//! | `score` | the scores of a round from the voters' measurements |
//! | `duty` | how much each voter reported, and how far it was off |
//! | `standing` | standing over many rounds, the coefficient in the outer step, what work earns |
//! | `credit` | the credit of a round, within the pot |
//! | `measurements` | the rounds that are not settled yet |
//!
//! All fractions are in parts per million (ppm). Divisions cut fractions off, towards zero.
//! `docs/protocol/trust.md` has the reason of each rule, and the attack that it stops.

pub(crate) mod admission;
pub(crate) mod committee;
pub(crate) mod credit;
pub(crate) mod duty;
#[cfg(test)]
mod fold;
#[cfg(test)]
mod in_chain;
pub(crate) mod measured;
pub(crate) mod measurements;
pub(crate) mod score;
pub(crate) mod standing;

use weal_proto::manifest::PPM;

/// One, in parts per million.
const ONE: i64 = PPM as i64;

/// The median; of an even number, the lower of the middle two. `None` of nothing.
fn lower_median<T: Ord>(numbers: impl Iterator<Item = T>) -> Option<T> {
    weighted_median(numbers.map(|number| (number, 1)))
}

/// The first number, in rising order, up to which at least half of the weight lies. `None` if there
/// is no weight.
fn weighted_median<T: Ord>(numbers: impl Iterator<Item = (T, u64)>) -> Option<T> {
    let mut rising: Vec<_> = numbers.filter(|(_, weight)| *weight > 0).collect();
    rising.sort_unstable();
    let all: u128 = rising.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let mut below = 0_u128;
    let first_at_half = rising.into_iter().find(|(_, weight)| {
        below = below.saturating_add(u128::from(*weight));
        below.saturating_mul(2) >= all
    });
    first_at_half.map(|(number, _)| number)
}

/// `number · part / whole`, cut off and within 64 bits; 0 if `whole` is 0.
fn scaled(number: i64, part: i64, whole: i64) -> i64 {
    let product = i128::from(number).saturating_mul(part.into());
    let quotient = product.checked_div(whole.into()).unwrap_or(0);
    let (least, most) = (i64::MIN.into(), i64::MAX.into());
    i64::try_from(quotient.clamp(least, most)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn medians_are_the_lower_middle() {
        assert_eq!(lower_median([3, 1, 2].into_iter()), Some(2));
        assert_eq!(lower_median([4, 1, 2, 3].into_iter()), Some(2));
        assert_eq!(lower_median(std::iter::empty::<u8>()), None);
        assert_eq!(
            weighted_median([(1, 3), (2, 2), (9, 2)].into_iter()),
            Some(2)
        );
        assert_eq!(
            weighted_median([(1, 3), (2, 0), (9, 3)].into_iter()),
            Some(1)
        );
        assert_eq!(weighted_median([(1, 0)].into_iter()), None);
        assert_eq!(
            weighted_median([(1, u64::MAX), (2, u64::MAX)].into_iter()),
            Some(1)
        );
    }

    #[test]
    fn fractions_are_cut_off_towards_zero() {
        assert_eq!(scaled(7, 1, 2), 3);
        assert_eq!(scaled(-7, 1, 2), -3);
        assert_eq!(scaled(7, 1, 0), 0);
        assert_eq!(scaled(i64::MAX, i64::MAX, 1), i64::MAX);
    }

    proptest! {
        /// Liars with less than half of the weight cannot move the median out of the honest range.
        #[test]
        fn a_minority_cannot_move_the_median_past_the_honest(
            honest in prop::collection::vec((-100_i64..100, 10_u64..20), 4..9),
            liars in prop::collection::vec((-10_000_i64..10_000, 1_u64..10), 0..4),
        ) {
            let all = honest.iter().chain(&liars).copied();
            let median = weighted_median(all).unwrap();
            let least = honest.iter().map(|(value, _)| *value).min().unwrap();
            let most = honest.iter().map(|(value, _)| *value).max().unwrap();
            prop_assert!((least..=most).contains(&median));
        }
    }
}
