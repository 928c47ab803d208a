//! Tests of the outer step against its definition, and of its independence from threads and tiles.

use super::clip::{clip_factors, median};
use super::step::{
    OuterStep, Rule, Scratch, Step, add_and_step, apply, apply_and_outline, apply_in_parts,
    step_chunk,
};
use crate::codec::body::{self, TileReader};
use crate::grid::{Chunk, Grid};
use crate::state::{outline, to_bytes};
use crate::testing::{bits, layout, on_any_number_of_threads, settings, values};
use crate::{Compression, Contribution, Error, Layout, compress, decode};
use proptest::prelude::*;
use std::sync::Mutex;

const RULES: [Rule; 3] = [Rule::MeanOfSenders, Rule::MeanOfAll, Rule::RootOfSenders];

/// A contribution made from `values` by top-k and the quantiser.
fn contribution(layout: &Layout, compression: &Compression, values: &[f32]) -> Contribution {
    let body = compress(
        layout,
        compression,
        &vec![0.0; values.len()],
        &mut values.to_vec(),
    )
    .unwrap();
    decode(layout, compression, &body, body.len()).unwrap()
}

/// Contributions with chunks of a single value, which are sent exactly.
fn exact<const N: usize>(lengths: &[usize], values: &[[f32; N]]) -> (Layout, Vec<Contribution>) {
    let (layout, one) = (layout(lengths), settings(1, 1));
    let contributions = values
        .iter()
        .map(|values| contribution(&layout, &one, values))
        .collect();
    (layout, contributions)
}

/// Coefficients of 1 for up to 16 contributions.
const ONES: [u32; 16] = [1_000_000; 16];

/// A step in which all contributions count fully.
fn step(contributions: &[Contribution], alpha: f32, rule: Rule) -> OuterStep<'_> {
    OuterStep {
        contributions,
        coefficients_ppm: &ONES[..contributions.len()],
        alpha,
        rule,
    }
}

fn applied(layout: &Layout, theta: &[f32], step: &OuterStep<'_>) -> Vec<f32> {
    let mut theta = theta.to_vec();
    apply(layout, &mut theta, step).unwrap();
    theta
}

#[test]
fn each_rule_divides_by_its_own_count() {
    let (layout, set) = exact(
        &[1, 1, 1],
        &[
            [1.0, 2.0, 0.0],
            [1.0, 0.0, 0.0],
            [4.0, 0.0, 0.0],
            [1.0, -2.0, 0.0],
        ],
    );
    // Only the third contribution's first tensor is above the median, 1, and clipped to it.
    let theta = [8.0, 8.0, 8.0];
    assert_eq!(
        applied(&layout, &theta, &step(&set, 0.5, Rule::MeanOfSenders)),
        [7.5, 8.0, 8.0]
    );
    assert_eq!(
        applied(&layout, &theta, &step(&set[..3], 0.5, Rule::MeanOfSenders)),
        [7.5, 7.0, 8.0]
    );
    assert_eq!(
        applied(&layout, &theta, &step(&set[..2], 0.5, Rule::MeanOfAll)),
        [7.5, 7.5, 8.0]
    );
    assert_eq!(
        applied(&layout, &theta, &step(&set, 0.5, Rule::RootOfSenders)),
        [7.0, 8.0, 8.0]
    );
}

#[test]
fn the_median_of_an_even_number_is_between_the_middle_two() {
    let median_of = |norms: &[f32]| median(norms.iter().map(|&norm| (norm, 1_000_000)));
    assert_eq!(median_of(&[]), 0.0);
    assert_eq!(median_of(&[0.0, 0.0]), 0.0);
    assert_eq!(median_of(&[3.0]), 3.0);
    assert_eq!(median_of(&[4.0, 1.0]), 2.5);
    assert_eq!(median_of(&[9.0, 1.0, 2.0]), 2.0);
    assert_eq!(median_of(&[9.0, 1.0, 2.0, 4.0]), 3.0);
    assert_eq!(median_of(&[0.0, 9.0, 0.0, 0.0, 1.0]), 5.0);
}

#[test]
fn norms_count_in_the_median_by_their_coefficient() {
    let half = 500_000;
    assert_eq!(
        median([(1.0, half), (2.0, half), (8.0, 2 * half)].into_iter()),
        5.0
    );
    assert_eq!(
        median([(1.0, half), (2.0, half), (8.0, 3 * half)].into_iter()),
        8.0
    );
    assert_eq!(
        median([(1.0, 2 * half), (8.0, 0), (9.0, 0), (7.0, 0)].into_iter()),
        1.0
    );
    assert_eq!(median([(1.0, 1), (2.0, 1), (0.0, half)].into_iter()), 1.5);
}

#[test]
fn norms_above_the_median_are_clipped_to_it() {
    let (_, set) = exact(&[1, 1], &[[1.0, 1.0], [2.0, 0.0], [8.0, 0.0]]);
    assert_eq!(
        clip_factors(&set, &ONES[..3]),
        [[1.0, 1.0], [1.0, 1.0], [0.25, 1.0]]
    );
    assert_eq!(clip_factors(&[], &[]), Vec::<Vec<f32>>::new());
}

#[test]
fn an_empty_decision_changes_nothing() {
    let (layout, zeros) = exact(&[2], &[[0.0, 0.0]]);
    let theta = [-0.0, f32::from_bits(1)];
    for rule in RULES {
        assert_eq!(
            bits(&applied(&layout, &theta, &step(&[], 1.0, rule))),
            bits(&theta)
        );
        assert_eq!(
            bits(&applied(&layout, &theta, &step(&zeros, 1.0, rule))),
            bits(&theta)
        );
    }
}

#[test]
fn a_coordinate_that_nobody_sent_keeps_its_bits() {
    let layout = layout(&[4]);
    let set = [contribution(
        &layout,
        &settings(4, 1),
        &[0.0, 1.0, 0.0, 0.0],
    )];
    for alpha in [0.0, 0.7] {
        let theta = [-0.0, 1.0, f32::from_bits(1), -1e30];
        let after = applied(&layout, &theta, &step(&set, alpha, Rule::MeanOfSenders));
        let untouched = |values: &[f32]| [bits(&values[..1]), bits(&values[2..])].concat();
        assert_eq!(untouched(&after), untouched(&theta));
    }
}

#[test]
fn what_cannot_be_applied_leaves_the_weights_alone() {
    let (layout, set) = exact(&[2], &[[1.0, 2.0]]);
    let foreign = contribution(
        &crate::testing::layout(&[1, 1]),
        &settings(1, 1),
        &[1.0, 2.0],
    );
    let other_settings = contribution(&layout, &settings(2, 2), &[1.0, 2.0]);
    let mut theta = [1.0, 2.0];
    let mut refusal = |set: &[Contribution], alpha| {
        let refused = apply(&layout, &mut theta, &step(set, alpha, Rule::MeanOfSenders));
        assert_eq!(theta, [1.0, 2.0]);
        refused.unwrap_err()
    };
    for alpha in [-1.0, -0.0, f32::NAN, f32::INFINITY] {
        assert_eq!(refusal(&set, alpha), Error::OuterLearningRate);
    }
    for (coefficients_ppm, expected) in [
        (
            &[1][..],
            Error::Length {
                what: "the list of coefficients",
                expected: 2,
                got: 1,
            },
        ),
        (&[1, 1_000_001], Error::Coefficient { position: 1 }),
    ] {
        let two = [set[0].clone(), set[0].clone()];
        let step = OuterStep {
            coefficients_ppm,
            ..step(&two, 1.0, Rule::MeanOfAll)
        };
        assert_eq!(apply(&layout, &mut [1.0, 2.0], &step), Err(expected));
    }
    assert_eq!(
        refusal(std::slice::from_ref(&foreign), 1.0),
        Error::ForeignContribution { position: 0 }
    );
    assert_eq!(
        refusal(&[set[0].clone(), foreign], 1.0),
        Error::ForeignContribution { position: 1 }
    );
    assert_eq!(
        refusal(&[set[0].clone(), other_settings], 1.0),
        Error::ForeignContribution { position: 1 }
    );
    let short = apply(
        &layout,
        &mut theta[1..],
        &step(&set, 1.0, Rule::MeanOfSenders),
    );
    assert!(matches!(
        short,
        Err(Error::Length {
            expected: 2,
            got: 1,
            ..
        })
    ));
}

/// The definition, one coordinate at a time.
fn by_definition(layout: &Layout, theta: &[f32], step: &OuterStep<'_>) -> Vec<f32> {
    let clips = clip_factors(step.contributions, step.coefficients_ppm);
    let counted: Vec<(Vec<f32>, f32)> = (step.contributions.iter().zip(&clips))
        .zip(step.coefficients_ppm)
        .filter(|(_, ppm)| **ppm > 0)
        .map(|((contribution, clips), &ppm)| {
            let coefficient = ppm as f32 / 1e6;
            let factors: Vec<f32> = clips.iter().map(|clip| clip * coefficient).collect();
            let mut dense = vec![0.0; theta.len()];
            contribution
                .add_clipped_to(layout, &mut dense, 1.0, &factors)
                .unwrap();
            (dense, coefficient)
        })
        .collect();
    let all: f32 = counted.iter().map(|(_, coefficient)| coefficient).sum();
    let next = |(place, &theta): (usize, &f32)| {
        let sent = counted.iter().filter(|(dense, _)| dense[place] != 0.0);
        let (sum, senders) = sent.fold((0.0, 0.0), |(sum, senders), (dense, coefficient)| {
            (sum + dense[place], senders + coefficient)
        });
        let divisor = match step.rule {
            Rule::MeanOfSenders => f32::max(senders, 1.0),
            Rule::MeanOfAll => f32::max(all, 1.0),
            Rule::RootOfSenders => f32::max(senders, 1.0).sqrt(),
        };
        theta - step.alpha * (sum / divisor)
    };
    theta.iter().enumerate().map(next).collect()
}

proptest! {
    #[test]
    fn applying_is_the_definition_to_the_bit(
        lengths in prop::collection::vec(1usize..150, 1..4),
        coefficients in prop::collection::vec(
            prop_oneof![Just(0), Just(1_000_000), 1..=1_000_000u32], 0..7,
        ),
        seed in 0u64..1 << 32, alpha in 0.0f32..2.0, rule in 0usize..3,
    ) {
        let (layout, compression) = (layout(&lengths), settings(32, 5));
        let parameters = layout.parameters();
        let theta = values(seed, parameters);
        let set: Vec<Contribution> = (1..=coefficients.len() as u64)
            .map(|peer| values(seed + peer, layout.parameters()))
            .map(|values| contribution(&layout, &compression, &values))
            .collect();
        let step = OuterStep { coefficients_ppm: &coefficients, ..step(&set, alpha, RULES[rule]) };
        let after = applied(&layout, &theta, &step);
        prop_assert_eq!(bits(&after), bits(&by_definition(&layout, &theta, &step)));
    }

    #[test]
    fn a_contribution_that_does_not_count_has_no_influence(
        trusted in 0usize..5, loud in 1.0f32..1000.0, seed in 0u64..1 << 32, rule in 0usize..3,
    ) {
        let (layout, compression) = (layout(&[100, 30]), settings(32, 5));
        let theta = values(seed, 130);
        let set: Vec<Contribution> = (1..=5)
            .map(|peer| values(seed + peer, 130).iter().map(|value| loud * value).collect())
            .map(|values: Vec<f32>| contribution(&layout, &compression, &values))
            .collect();
        let mut coefficients = [0; 5];
        coefficients[trusted] = 1_000_000;
        let among = OuterStep {
            coefficients_ppm: &coefficients, ..step(&set, 0.7, RULES[rule])
        };
        let alone = step(&set[trusted..=trusted], 0.7, RULES[rule]);
        prop_assert_eq!(
            bits(&applied(&layout, &theta, &among)), bits(&applied(&layout, &theta, &alone))
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_weights_do_not_depend_on_the_tiles(
        lengths in prop::collection::vec(1usize..40_000, 1..4),
        tile in 1usize..50_000,
        seed in 0u64..1 << 32,
        rule in 0usize..3,
    ) {
        let (layout, compression) = (layout(&lengths), settings(1024, 20));
        let bodies: Vec<Vec<u8>> = (1..=3)
            .map(|peer| values(seed + peer, layout.parameters()))
            .map(|values| contribution(&layout, &compression, &values).body().to_vec())
            .collect();
        let rule = RULES[rule];
        let stepped = |tile: usize| {
            let grid = Grid::with_tiles(&layout, &compression, tile).unwrap();
            let decode = |body: &Vec<u8>| body::decode(&compression, &grid, body).unwrap();
            let set: Vec<_> = bodies
                .iter()
                .map(|body| Contribution::new(&layout, &compression, &grid, decode(body)))
                .collect();
            let mut theta = values(seed, layout.parameters());
            let step = Step::on(grid, &step(&set, 0.7, rule));
            step.tiles(&mut theta, |_| ()).unwrap();
            bits(&theta)
        };
        prop_assert_eq!(stepped(tile), stepped(usize::MAX));
    }
}

#[test]
fn the_outline_is_of_the_stepped_weights() {
    for chunk in [64, 4096, 1000] {
        let (layout, compression) = (
            layout(&[(1 << 18) + 70_000, 3, 5000]),
            settings(chunk, chunk.div_ceil(64)),
        );
        let set: Vec<_> = (1..=3)
            .map(|peer| contribution(&layout, &compression, &values(peer, layout.parameters())))
            .collect();
        for set in [&set[..], &[]] {
            let before = values(0, layout.parameters());
            let mut theta = before.clone();
            let step = step(set, 0.7, Rule::MeanOfSenders);
            let outlined = apply_and_outline(&layout, &mut theta, &step);
            assert_eq!(bits(&theta), bits(&applied(&layout, &before, &step)));
            assert_eq!(outlined, outline(&layout, &theta));
            let parts = Mutex::new(vec![0xff; 4 * before.len()]);
            let in_parts = apply_in_parts::<Error>(&layout, &before, &step, |place, part| {
                parts.lock().unwrap()[place as usize..][..part.len()].copy_from_slice(part);
                Ok(())
            });
            assert_eq!(in_parts, outlined);
            assert!(parts.into_inner().unwrap() == to_bytes(&theta));
        }
    }
}

#[test]
fn avx2_changes_no_bit() {
    let (layout, compression) = (layout(&[4096 * 3 + 1000]), settings(4096, 64));
    let contributions: Vec<Contribution> = (1..=7)
        .map(|peer| contribution(&layout, &compression, &values(peer, layout.parameters())))
        .collect();
    for rule in RULES {
        let theta = values(0, layout.parameters());
        let step = Step::new(&layout, &theta, &step(&contributions, 0.7, rule))
            .unwrap()
            .unwrap();
        let tile = &step.grid.tiles()[0];
        let stepped_by =
            |step_by: fn(&Step<'_>, &mut [TileReader<'_>], &Chunk, &mut [f32], &mut Scratch)| {
                let (mut theta, mut scratch) = (theta.clone(), Scratch::default());
                let mut readers = step.readers(0, tile);
                for chunk in step.grid.chunks() {
                    step_by(
                        &step,
                        &mut readers,
                        chunk,
                        &mut theta[chunk.range()],
                        &mut scratch,
                    );
                }
                bits(&theta)
            };
        assert_eq!(stepped_by(step_chunk), stepped_by(add_and_step));
    }
}

#[test]
fn the_weights_do_not_depend_on_the_number_of_threads() {
    let (layout, compression) = (layout(&[100_000, 1, 4097, 300]), settings(4096, 64));
    let theta = values(0, layout.parameters());
    let set: Vec<Contribution> = (1..=9)
        .map(|peer| contribution(&layout, &compression, &values(peer, layout.parameters())))
        .collect();
    for rule in RULES {
        on_any_number_of_threads(|| bits(&applied(&layout, &theta, &step(&set, 0.7, rule))));
    }
}
