//! What a peer has proved over many rounds, and what follows from it: how much its contributions
//! count in the outer step, and the credit that it earns.

use std::collections::BTreeSet;

use weal_proto::PeerId;
use weal_proto::manifest::{PPM, Trust};

use super::duty::Duty;
use super::{ONE, scaled, weighted_median};

/// A suspect is not drawn to measure, so nothing shows that it is honest by now. Its distance falls
/// by itself instead, over this many times `memory_rounds`.
const FORGIVING: i64 = 8;
/// The share of missed reports, in ppm, from which on a contribution counts nothing.
const MOST_MISSED: i64 = ONE / 2;
/// What a peer earns follows its scores over this many times `memory_rounds`.
const WORTH: u32 = 4;

/// What a peer has proved over many rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The average of its scores over the last rounds, in ppm of a typical contribution's.
    pub level: i32,
    /// The same over four times as many rounds, for what it earns.
    pub worth: i32,
    /// The number of its contributions that were measured.
    pub measured: u32,
    /// How far its measurements of others were from the medians, on average over the last rounds,
    /// in ppm of the usual distance.
    pub distance: u32,
    /// The share of the measurements it was drawn for that it did not report, on average over the
    /// last rounds, in ppm.
    pub missed: u32,
}

impl Standing {
    /// A founder's at the start: that of a typical peer with a long history.
    pub(crate) fn founder(rules: &Trust) -> Self {
        Self {
            level: narrow(ONE),
            worth: narrow(ONE),
            measured: rules.probation.max(worth_rounds(rules)),
            ..Self::default()
        }
    }

    /// Whether its probation is over. Before, its contributions are measured but not applied.
    pub(crate) const fn is_trusted(&self, rules: &Trust) -> bool {
        self.measured >= rules.probation
    }

    /// Takes in the score of one contribution. The first few count equally; then each counts as
    /// one of `memory_rounds`. Harm halves the level at once, so that a peer that built up standing
    /// for long loses it within a few rounds.
    pub(crate) fn take_score(&mut self, score: i32, rules: &Trust) {
        self.measured = self.measured.saturating_add(1);
        let moved = |average: i32, memory: u32| {
            let rounds = self.measured.min(memory).max(1);
            let gap = i64::from(score).saturating_sub(average.into());
            narrow(i64::from(average).saturating_add(scaled(gap, 1, rounds.into())))
        };
        self.worth = moved(self.worth, worth_rounds(rules));
        self.level = moved(self.level, rules.memory_rounds);
        if i64::from(score) <= -i64::from(rules.harm_ppm) {
            self.level = self.level.min(self.level / 2);
        }
    }

    /// Takes in how it did its duty to measure in one round.
    pub(crate) fn take_duty(&mut self, duty: Duty, rules: &Trust) {
        let memory = rules.memory_rounds.max(1).into();
        if let Some(distance) = duty.distance {
            self.distance = moved(self.distance, distance, memory);
        }
        self.missed = moved(self.missed, duty.missed, memory);
    }

    /// Forgets a part of its distance: a settled round in which nothing could be drawn from it.
    pub(crate) fn forgive(&mut self, rules: &Trust) {
        let memory = i64::from(rules.memory_rounds.max(1)).saturating_mul(FORGIVING);
        self.distance = moved(self.distance, 0, memory);
    }

    /// What a score counts for. The more of it is noise, the less it says against what the peer has
    /// proved before; `doubt` is that share, in ppm. A positive one counts in proportion to the
    /// reports that the peer did not miss.
    pub(crate) fn counted(&self, score: i32, doubt: u32) -> i32 {
        let gap = i64::from(self.level).saturating_sub(score.into());
        let likely = i64::from(score).saturating_add(scaled(gap, doubt.into(), ONE));
        self.dutiful(narrow(likely))
    }

    /// As much of a positive number as the peer reported on others; nothing if it missed half.
    fn dutiful(&self, number: i32) -> i32 {
        let kept = MOST_MISSED.saturating_sub(self.missed.into()).max(0);
        let part = scaled(number.max(0).into(), kept, MOST_MISSED);
        narrow(part).saturating_add(number.min(0))
    }

    /// What a contribution earns whose score counts for this, in ppm of the credit: as much as its
    /// peer's work was worth over the last rounds, and at most what is usual. What does nothing or
    /// harm earns nothing, and whoever counts less in the outer step earns as much less.
    ///
    /// Each peer trains on at most a round's quota. So what measures above the usual is noise, or a
    /// friend's report, and paying by the score itself would pay for both. And what measures less
    /// may be noise, or a liar's report: the more the round's scores are `doubt`, in ppm, the less
    /// of the usual earns in full, down to half of it.
    pub(crate) fn earned_ppm(
        &self,
        (counted, doubt): (i32, u32),
        usual: &Usual,
        rules: &Trust,
    ) -> i32 {
        if counted <= 0 || usual.worth <= 0 {
            return 0;
        }
        let part = ONE.saturating_sub(i64::from(doubt) / 2);
        let full = scaled(usual.worth.into(), part, ONE).max(1);
        let worth = scaled(self.worth.into(), ONE, full).clamp(0, ONE);
        let counts = self.coefficient_ppm(usual.level, rules).into();
        self.dutiful(narrow(scaled(worth, counts, ONE)))
    }

    /// How much its contribution counts in the outer step, in ppm: fully from a part of the usual
    /// level on, and in proportion below. So the noise in an honest peer's scores costs nothing.
    pub(crate) fn coefficient_ppm(&self, usual: i32, rules: &Trust) -> u32 {
        if !self.is_trusted(rules) {
            return 0;
        }
        // If nobody has proved anything, the run still goes on.
        if usual <= 0 {
            return PPM;
        }
        let full = scaled(usual.into(), rules.full_standing_ppm.into(), ONE).max(1);
        let part = scaled(self.level.into(), ONE, full).clamp(0, ONE);
        u32::try_from(part).unwrap_or(0)
    }
}

/// What is usual: medians over peers whose probation is over, each counted by its weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usual {
    /// The usual level.
    pub level: i32,
    /// The usual worth.
    pub worth: i32,
}

impl Usual {
    pub(crate) fn of<'a>(
        peers: impl Iterator<Item = (&'a Standing, u64)> + Clone,
        rules: &Trust,
    ) -> Self {
        let median = |of: fn(&Standing) -> i32| {
            let trusted = peers.clone().filter(|(one, _)| one.is_trusted(rules));
            weighted_median(trusted.map(|(one, weight)| (of(one), weight))).unwrap_or(0)
        };
        Self {
            level: median(|one| one.level),
            worth: median(|one| one.worth),
        }
    }
}

fn worth_rounds(rules: &Trust) -> u32 {
    rules.memory_rounds.saturating_mul(WORTH)
}

/// The voters whose results are far from the medians again and again: `most_distance_ppm` times as
/// far as is usual.
pub(crate) fn suspects<'a>(
    voters: impl Iterator<Item = (PeerId, &'a Standing)>,
    rules: &Trust,
) -> BTreeSet<PeerId> {
    let is_far = |standing: &Standing| standing.distance > rules.most_distance_ppm;
    voters
        .filter(|(_, standing)| is_far(standing))
        .map(|(peer, _)| peer)
        .collect()
}

/// `average`, one of `memory` steps closer to `newest`.
fn moved(average: u32, newest: u32, memory: i64) -> u32 {
    let gap = i64::from(newest).saturating_sub(average.into());
    let next = i64::from(average).saturating_add(scaled(gap, 1, memory));
    u32::try_from(next).unwrap_or(0)
}

fn narrow(number: i64) -> i32 {
    let within = number.clamp(i32::MIN.into(), i32::MAX.into());
    i32::try_from(within).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: i32 = 1_000_000;

    fn rules() -> Trust {
        Trust::default()
    }

    fn after(start: Standing, scores: &[i32]) -> Standing {
        let mut standing = start;
        scores
            .iter()
            .for_each(|score| standing.take_score(*score, &rules()));
        standing
    }

    fn peer(n: u8) -> PeerId {
        [n; 32].into()
    }

    #[test]
    fn the_first_scores_are_averaged_and_later_ones_count_an_eighth() {
        let standing = after(Standing::default(), &[ONE, 0, ONE / 2]);
        assert_eq!((standing.level, standing.measured), (ONE / 2, 3));
        let founder = Standing::founder(&rules());
        assert_eq!(after(founder, &[0]).level, ONE * 7 / 8);
    }

    #[test]
    fn whoever_betrays_after_long_good_work_counts_nothing_after_three_rounds() {
        let mut standing = after(Standing::default(), &[ONE; 1_000]);
        let mut counts = Vec::new();
        for _ in 0..3 {
            standing.take_score(-2 * ONE, &rules());
            counts.push(standing.coefficient_ppm(ONE, &rules()));
        }
        assert!(counts[0] < 700_000 && counts[1] < 100_000, "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn chance_in_an_honest_peers_scores_costs_nothing() {
        let noisy = [ONE, -ONE / 4, 2 * ONE, 0, ONE, 2 * ONE, ONE / 2, 2 * ONE];
        let standing = after(Standing::founder(&rules()), &noisy.repeat(20));
        assert_eq!(standing.coefficient_ppm(ONE, &rules()), 1_000_000);
    }

    #[test]
    fn a_newcomer_is_measured_before_it_counts() {
        let mut standing = Standing::default();
        for _ in 0..3 {
            assert_eq!(standing.coefficient_ppm(ONE, &rules()), 0);
            standing.take_score(ONE, &rules());
        }
        assert_eq!(standing.coefficient_ppm(ONE, &rules()), 1_000_000);
    }

    #[test]
    fn below_half_of_the_usual_level_a_contribution_counts_in_proportion() {
        let of = |level| {
            let standing = Standing {
                level,
                ..Standing::founder(&rules())
            };
            standing.coefficient_ppm(ONE, &rules())
        };
        let found = [2 * ONE, ONE / 2, ONE / 4, 1, 0, -ONE].map(of);
        assert_eq!(found, [1_000_000, 1_000_000, 500_000, 2, 0, 0]);
    }

    #[test]
    fn a_run_in_which_nobody_has_standing_goes_on() {
        let nobody = Standing {
            level: -5,
            ..Standing::founder(&rules())
        };
        let usual = Usual::of([(&nobody, 7)].into_iter(), &rules());
        assert_eq!(nobody.coefficient_ppm(usual.level, &rules()), 1_000_000);
    }

    #[test]
    fn a_crowd_without_weight_does_not_move_the_usual_level() {
        let (honest, low) = (
            Standing::founder(&rules()),
            Standing {
                level: 1,
                ..Standing::founder(&rules())
            },
        );
        let crowd = std::iter::repeat_n((&low, 1), 100);
        let usual = Usual::of(crowd.chain([(&honest, 1_000)]), &rules());
        assert_eq!(usual.level, ONE);
    }

    fn far(distance: u32) -> Duty {
        Duty {
            distance: Some(distance),
            missed: 0,
        }
    }

    fn is_suspect(standing: &Standing) -> bool {
        !suspects([(peer(1), standing)].into_iter(), &rules()).is_empty()
    }

    #[test]
    fn a_liar_is_suspected_after_some_rounds_and_nobody_honest_is() {
        let (mut liar, mut honest) = (Standing::founder(&rules()), Standing::founder(&rules()));
        for round in 0..12 {
            liar.take_duty(far(14_000_000), &rules());
            honest.take_duty(far(800_000 + 300_000 * (round % 5)), &rules());
            assert_eq!(is_suspect(&liar), round >= 2, "round {round}");
            assert!(!is_suspect(&honest));
        }
    }

    #[test]
    fn a_suspect_is_forgiven_in_time_and_suspected_at_its_next_lie() {
        let mut liar = Standing::founder(&rules());
        (0..6).for_each(|_| liar.take_duty(far(16_000_000), &rules()));
        let mut rounds = 0;
        while is_suspect(&liar) {
            liar.forgive(&rules());
            rounds += 1;
        }
        assert!((40..80).contains(&rounds), "{rounds}");
        liar.take_duty(far(16_000_000), &rules());
        assert!(is_suspect(&liar));
    }

    #[test]
    fn work_counts_in_proportion_to_the_reports_and_harm_in_full() {
        let of = |missed: u32, score: i32| {
            let standing = Standing {
                missed,
                ..Standing::founder(&rules())
            };
            standing.counted(score, 0)
        };
        let ppm = [0, 100_000, 250_000, 500_000, 1_000_000];
        assert_eq!(
            ppm.map(|missed| of(missed, ONE)),
            [ONE, 800_000, 500_000, 0, 0]
        );
        assert_eq!(ppm.map(|missed| of(missed, -ONE)), [-ONE; 5]);
    }

    #[test]
    fn what_is_mostly_noise_says_little_against_what_was_proved_before() {
        let founder = Standing::founder(&rules());
        let of = |doubt| founder.counted(-ONE, doubt);
        assert_eq!([0, 500_000, 900_000].map(of), [-ONE, 0, 800_000]);
        assert_eq!(Standing::default().counted(ONE, 900_000), 100_000);
    }

    #[test]
    fn a_silent_voters_work_counts_nothing_after_some_rounds() {
        let mut silent = Standing::founder(&rules());
        let duty = Duty {
            distance: None,
            missed: 1_000_000,
        };
        let counts = (0..8).map(|_| {
            silent.take_duty(duty, &rules());
            silent.counted(ONE, 0)
        });
        let counts: Vec<_> = counts.collect();
        assert!(counts[0] > ONE / 2 && counts[7] == 0, "{counts:?}");
    }

    #[test]
    fn work_earns_its_worth_and_no_more_than_usual() {
        let usual = Usual {
            level: ONE,
            worth: ONE,
        };
        let of = |worth: i32, score: i32| {
            let standing = Standing {
                worth,
                ..Standing::founder(&rules())
            };
            standing.earned_ppm((score, 0), &usual, &rules())
        };
        assert_eq!(
            [0, ONE / 4, ONE, 2 * ONE].map(|worth| of(worth, ONE)),
            [0, ONE / 4, ONE, ONE]
        );
        let scores = [2 * ONE, ONE / 9, 0, -ONE / 2];
        assert_eq!(scores.map(|score| of(ONE, score)), [ONE, ONE, 0, 0]);
    }

    #[test]
    fn the_more_is_noise_the_less_of_the_usual_worth_earns_in_full() {
        let usual = Usual {
            level: ONE,
            worth: ONE,
        };
        let of = |worth: i32, doubt: u32| {
            let standing = Standing {
                worth,
                ..Standing::founder(&rules())
            };
            standing.earned_ppm((ONE, doubt), &usual, &rules())
        };
        let doubts = [0, 500_000, 1_000_000];
        assert_eq!(
            doubts.map(|doubt| of(ONE * 3 / 4, doubt)),
            [750_000, ONE, ONE]
        );
        assert_eq!(
            doubts.map(|doubt| of(ONE / 4, doubt)),
            [250_000, 333_333, 500_000]
        );
        assert_eq!(doubts.map(|doubt| of(0, doubt)), [0; 3]);
    }

    proptest! {
        #[test]
        fn a_level_stays_within_its_scores_and_distances_too(
            scores in prop::collection::vec(-2 * ONE..=2 * ONE, 0..50),
            distances in prop::collection::vec(0..=2_000_000_u32, 0..50),
        ) {
            let mut standing = after(Standing::default(), &scores);
            distances.iter().for_each(|one| standing.take_duty(far(*one), &rules()));
            prop_assert!((-2 * ONE..=2 * ONE).contains(&standing.level));
            prop_assert!(standing.distance <= 2_000_000);
            prop_assert!(standing.coefficient_ppm(ONE, &rules()) <= 1_000_000);
        }
    }
}
