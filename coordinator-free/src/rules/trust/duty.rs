//! How voters did their duty to measure contributions: how much they reported, and how far from
//! what counts.
//!
//! Distances are in parts of the usual one in the same round. So a lie stands out however noisy
//! honest measurements are, and noise alone makes nobody stand out.

use std::collections::BTreeMap;

use weal_proto::PeerId;
use weal_proto::manifest::PPM;

use super::measured::Measured;
use super::{ONE, scaled, weighted_median};

/// Limit on the distance of a report. Far more than honest noise, so that whoever lies beyond all
/// bounds stands out after a few rounds; but one committee of liars condemns no honest voter.
const MOST_DISTANCE: i64 = 16 * ONE;
/// The usual distance is at least a typical gain divided by this: where voters measure almost the
/// same, a small difference is no lie.
const LEAST_USUAL: i64 = 8;

/// How a voter did its duty to measure in a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Duty {
    /// How far its reports were from what counts, in ppm of the usual distance of a report in the
    /// round: the mean over its reports. `None` if nothing that it reported on has a gain.
    pub distance: Option<u32>,
    /// The share of the contributions it was drawn for that it did not report on, in ppm.
    pub missed: u32,
}

/// What a voter was drawn for, and what it reported.
#[derive(Debug, Default)]
struct Record {
    drawn: i64,
    reported: i64,
    /// How far each of its reports is from what counts, in ppm of the loss.
    gaps: Vec<i64>,
}

/// How each voter that was drawn did its duty, and the usual gap: the median over reports, by
/// voices, without those that themselves are what counts. `gains` are what counts for each
/// contribution.
pub(crate) fn duties(
    measured: &[Measured],
    gains: &[Option<i64>],
    typical: i64,
) -> (BTreeMap<PeerId, Duty>, i64) {
    let mut records: BTreeMap<PeerId, Record> = BTreeMap::new();
    let mut gaps = Vec::new();
    for (one, gain) in measured.iter().zip(gains) {
        for (voter, voices) in &one.committee {
            let record = records.entry(*voter).or_default();
            record.drawn = record.drawn.saturating_add(1);
            let Some(report) = one.reports.get(voter) else {
                continue;
            };
            record.reported = record.reported.saturating_add(1);
            if let Some(gain) = gain {
                let gap = report.gain().saturating_sub(*gain).saturating_abs();
                record.gaps.push(gap);
                gaps.push((gap, *voices));
            }
        }
    }
    let others = gaps.into_iter().filter(|(gap, _)| *gap > 0);
    let usual = weighted_median(others).unwrap_or(0);
    let least = scaled(typical, 1, LEAST_USUAL).max(1);
    let duty = |(voter, record): (PeerId, Record)| (voter, record.duty(usual.max(least)));
    (records.into_iter().map(duty).collect(), usual)
}

impl Record {
    fn duty(self, usual: i64) -> Duty {
        let relative = |gap: &i64| scaled(*gap, ONE, usual).min(MOST_DISTANCE);
        let sum = self.gaps.iter().map(relative).fold(0, i64::saturating_add);
        let mean = sum.checked_div(i64::try_from(self.gaps.len()).unwrap_or(i64::MAX));
        let missed = self.drawn.saturating_sub(self.reported);
        Duty {
            distance: mean.map(|mean| u32::try_from(mean).unwrap_or(u32::MAX)),
            missed: u32::try_from(scaled(missed, ONE, self.drawn)).unwrap_or(PPM),
        }
    }
}

#[cfg(test)]
mod tests {
    use weal_proto::{Score, SlotId};

    use super::*;

    fn peer(n: u8) -> PeerId {
        [n; 32].into()
    }

    /// The duties of voters 101 to 105 that report these gains, one row for each contribution.
    fn of(rows: &[[Option<i32>; 5]]) -> Vec<Duty> {
        let report = |ppm: i32| {
            let score = Score {
                slot: SlotId(0),
                own_ppm: ppm,
                held_ppm: ppm,
            };
            (&score).into()
        };
        let measured: Vec<_> = rows
            .iter()
            .map(|row| Measured {
                peer: peer(1),
                trusted: true,
                committee: (101..=105).map(|voter| (peer(voter), 1)).collect(),
                own_ppm: 0,
                reports: (101..)
                    .zip(row)
                    .filter_map(|(voter, ppm)| Some((peer(voter), report((*ppm)?))))
                    .collect(),
            })
            .collect();
        let gains: Vec<_> = measured.iter().map(Measured::gain).collect();
        let (duties, _) = duties(&measured, &gains, 10_000);
        duties.into_values().collect()
    }

    #[test]
    fn distances_are_in_parts_of_the_usual_one_and_bounded() {
        let found = of(&[
            [8_000, 9_000, 10_000, 12_000, i32::MAX].map(Some),
            [10_000, 8_000, 12_000, 9_000, i32::MAX].map(Some),
        ]);
        let distances: Vec<_> = found.iter().map(|one| one.distance).collect();
        let expected = [500_000, 750_000, 500_000, 750_000, 16_000_000];
        assert_eq!(distances[4], Some(expected[4]));
        assert_eq!(distances, expected.map(Some));
    }

    #[test]
    fn where_voters_measure_the_same_a_small_difference_is_no_lie() {
        let found = of(&[[10_000, 10_000, 10_000, 10_001, 10_000].map(Some)]);
        assert_eq!(found[3].distance, Some(800));
    }

    #[test]
    fn whoever_is_silent_misses_its_reports() {
        let some = Some(10_000);
        let found = of(&[
            [some, some, some, some, None],
            [some, some, some, None, None],
        ]);
        let missed: Vec<_> = found.iter().map(|one| one.missed).collect();
        assert_eq!(missed, [0, 0, 0, 500_000, 1_000_000]);
        assert_eq!(found[4].distance, None);
    }

    #[test]
    fn a_report_on_what_has_no_gain_is_not_missed_and_not_far() {
        let found = of(&[[Some(10_000), Some(-9_000), None, None, None]]);
        assert_eq!((found[0].missed, found[0].distance), (0, None));
        assert_eq!(found[2].missed, 1_000_000);
    }
}
