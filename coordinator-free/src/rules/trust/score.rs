//! The scores of a round, from what voters measured.
//!
//! Each voter of a contribution's committee measures the loss with and without it, on samples that
//! its peer claims and on held-out ones. What counts is the median of their results. Scores are in
//! parts of a typical contribution of the same round, because what a contribution does to the loss
//! falls by a hundred times while a run learns.

use std::collections::BTreeMap;

use weal_proto::PeerId;
use weal_proto::manifest::{PPM, Trust};

use super::duty::{Duty, duties};
use super::measured::Measured;
use super::{ONE, lower_median, scaled};

/// What a settled round says about its contributors and voters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scores {
    /// The score of each contributor, in ppm of a typical contribution's; `None` if too few voters
    /// measured it.
    pub contributors: BTreeMap<PeerId, Option<i32>>,
    /// How much of what the scores say is noise, in ppm: all of it where voters differ by far more
    /// than a typical contribution does.
    pub doubt: u32,
    /// How each voter that was drawn did its duty.
    pub voters: BTreeMap<PeerId, Duty>,
}

/// The scores of a round.
pub(crate) fn scores(measured: &[Measured], rules: &Trust) -> Scores {
    let gains: Vec<_> = measured.iter().map(Measured::gain).collect();
    let with_gains = || measured.iter().zip(&gains);
    // If a crowd of newcomers is measured too, it does not decide what is typical.
    let gains_of = |trusted| {
        let group = with_gains().filter(move |(one, _)| one.trusted == trusted);
        group.filter_map(|(_, gain)| *gain)
    };
    let typical = lower_median(gains_of(true)).or_else(|| lower_median(gains_of(false)));
    let typical = typical.unwrap_or(0).max(rules.least_typical_ppm.into());
    let most = i64::from(rules.most_score_ppm);
    let relative = |gain: i64| scaled(gain, ONE, typical);
    let score = |gain: i64| i32::try_from(relative(gain).clamp(-most, most)).unwrap_or(0);

    // The only voter of a run has nobody to measure it, and decides everything anyway. Without this
    // it would lose its weight to the first newcomer.
    let score_of = |one: &Measured, gain: Option<i64>| {
        let alone = one.committee.is_empty().then_some(PPM);
        gain.map(score)
            .or_else(|| alone.and_then(|one| i32::try_from(one).ok()))
    };
    let (voters, usual_gap) = duties(measured, &gains, typical);
    Scores {
        doubt: doubt(usual_gap, typical),
        contributors: with_gains()
            .map(|(one, gain)| (one.peer, score_of(one, *gain)))
            .collect(),
        voters,
    }
}

/// The share of noise in a score, as in a Kalman filter: the noise's square over the sum of its own
/// and the typical gain's.
fn doubt(usual_gap: i64, typical: i64) -> u32 {
    let square = |number: i64| {
        let size = u128::from(number.unsigned_abs());
        size.saturating_mul(size)
    };
    let both = square(usual_gap).saturating_add(square(typical));
    let part = square(usual_gap).saturating_mul(PPM.into());
    u32::try_from(part.checked_div(both).unwrap_or(0)).unwrap_or(PPM)
}

#[cfg(test)]
mod tests {
    use super::super::measured::Report;
    use super::*;

    fn peer(n: u8) -> PeerId {
        [n; 32].into()
    }

    /// A contribution that five equal voters, 101 to 105, measure as these.
    fn measured(n: u8, trusted: bool, reports: &[(i32, i32)]) -> Measured {
        let report = |(own, held): &(i32, i32)| Report {
            own: *own,
            held: *held,
        };
        Measured {
            peer: peer(n),
            trusted,
            committee: (101..=105).map(|voter| (peer(voter), 1)).collect(),
            own_ppm: 0,
            reports: (101..).map(peer).zip(reports.iter().map(report)).collect(),
        }
    }

    fn score_of(n: u8, all: &[Measured]) -> Option<i32> {
        scores(all, &Trust::default()).contributors[&peer(n)]
    }

    #[test]
    fn a_typical_contribution_scores_one_and_others_in_parts_of_it() {
        let all = [
            measured(1, true, &[(10_000, 9_000); 5]),
            measured(2, true, &[(12_000, 12_000); 5]),
            measured(3, true, &[(4_000, 4_000); 5]),
            measured(4, true, &[(-5_000, -5_000); 5]),
            measured(5, true, &[(90_000, 90_000); 5]),
        ];
        let found = [1, 2, 3, 4, 5].map(|n| score_of(n, &all));
        assert_eq!(
            found,
            [1_000_000, 1_200_000, 400_000, -500_000, 2_000_000].map(Some)
        );
    }

    #[test]
    fn learning_by_heart_earns_at_most_twice_the_gain_on_held_out_text() {
        let all = [
            measured(1, true, &[(10_000, 10_000); 5]),
            measured(2, false, &[(50_000, 0); 5]),
            measured(3, false, &[(50_000, 1_000); 5]),
            measured(4, false, &[(0, 10_000); 5]),
        ];
        let found = [2, 3, 4].map(|n| score_of(n, &all));
        assert_eq!(found, [0, 200_000, 0].map(Some));
    }

    #[test]
    fn two_liars_of_five_change_nothing() {
        let honest = [(9_000, 9_000), (10_000, 10_000), (11_000, 11_000)];
        for lie in [i32::MIN, i32::MAX] {
            let reports = [&honest[..], &[(lie, lie); 2]].concat();
            let all = [
                measured(1, true, &reports),
                measured(2, true, &[(10_000, 10_000); 5]),
            ];
            let found = score_of(1, &all).unwrap();
            assert!((900_000..=1_100_000).contains(&found), "{found}");
        }
    }

    #[test]
    fn a_lone_liar_among_four_voters_lowers_nobodys_score() {
        let lie = (i32::MIN, i32::MIN);
        for low in [1, 2] {
            // The liar has one or two of the five voices, two honest voters the others.
            let (below, above) = ([(8_000, 8_000); 2], [(10_000, 10_000); 2]);
            let honest = [&below[..], &above].concat();
            let reports = [vec![lie; low], honest[low - 1..].to_vec()].concat();
            let victim = Measured {
                own_ppm: 1_500_000,
                ..measured(2, true, &reports)
            };
            assert_eq!(victim.gain(), Some(10_000), "{low} voices");
            let without = Measured {
                own_ppm: 0,
                ..victim
            };
            assert_eq!(without.gain(), Some(8_000), "{low} voices");
        }
    }

    #[test]
    fn fewer_own_voices_than_one_change_nothing() {
        let reports = [1_000, 2_000, 3_000, 4_000, 5_000].map(|ppm| (ppm, ppm));
        for own_ppm in [0, 300_000, 999_999] {
            let one = Measured {
                own_ppm,
                ..measured(1, true, &reports)
            };
            assert_eq!(one.gain(), Some(3_000));
        }
    }

    #[test]
    fn what_too_few_measured_has_no_score() {
        let two = measured(1, true, &[(10_000, 10_000); 2]);
        let three = measured(2, true, &[(10_000, 10_000); 3]);
        let all = [two, three];
        assert_eq!([1, 2].map(|n| score_of(n, &all)), [None, Some(1_000_000)]);
    }

    #[test]
    fn the_only_voter_scores_as_a_typical_contribution() {
        let alone = Measured {
            committee: BTreeMap::new(),
            ..measured(1, true, &[])
        };
        assert_eq!(score_of(1, &[alone]), Some(1_000_000));
    }

    #[test]
    fn whoever_was_not_drawn_does_not_count() {
        let mut one = measured(1, true, &[(10_000, 10_000); 3]);
        for stranger in 120..130 {
            one.reports
                .insert(peer(stranger), Report { own: -9, held: -9 });
        }
        assert_eq!(score_of(1, &[one]), Some(1_000_000));
    }

    #[test]
    fn a_crowd_of_newcomers_does_not_decide_what_is_typical() {
        let mut all = vec![measured(1, true, &[(10_000, 10_000); 5])];
        all.extend((2..9).map(|n| measured(n, false, &[(10, 10); 5])));
        assert_eq!(
            [1, 2].map(|n| score_of(n, &all)),
            [Some(1_000_000), Some(1_000)]
        );
    }

    #[test]
    fn where_contributions_do_next_to_nothing_scores_shrink() {
        let all = [
            measured(1, true, &[(20, 20); 5]),
            measured(2, true, &[(-20, -20); 5]),
        ];
        assert_eq!(
            [1, 2].map(|n| score_of(n, &all)),
            [Some(100_000), Some(-100_000)]
        );
    }

    #[test]
    fn the_more_voters_differ_the_less_a_score_says() {
        let of = |spread: i32| {
            let reports = [-2, -1, 0, 1, 2].map(|n| 10_000 + n * spread);
            let one = measured(1, true, &reports.map(|ppm| (ppm, ppm)));
            scores(&[one], &Trust::default()).doubt
        };
        assert_eq!(
            [0, 5_000, 10_000, 30_000].map(of),
            [0, 200_000, 500_000, 900_000]
        );
    }

    #[test]
    fn a_round_without_contributions_settles() {
        assert_eq!(scores(&[], &Trust::default()), Scores::default());
    }
}
