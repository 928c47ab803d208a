use std::io;

use super::adamw::{Block, adamw_any, adamw_block};
use super::codes::BLOCK;
use super::{Moments8, adamw};
use crate::testing::{bits, on_any_number_of_threads, values};
use crate::update::{self, AdamW, SETTINGS};

const COUNT: usize = 20_003;

fn squares(seed: u64) -> Vec<f32> {
    let values = values(seed, COUNT).into_iter();
    values.map(|value| value * value).collect()
}

/// What the largest of each value's block is.
fn scales(values: &[f32]) -> impl Iterator<Item = f32> {
    let blocks = values.chunks(BLOCK);
    blocks.flat_map(|block| {
        let most = block
            .iter()
            .fold(0.0, |most: f32, value| most.max(value.abs()));
        vec![most; block.len()]
    })
}

#[test]
fn a_moment_is_off_by_at_most_one_step_of_its_code() {
    let (first, second) = (values(1, COUNT), squares(2));
    let moments = Moments8::of(&first, &second, 3);
    let (firsts, seconds) = (moments.first(), moments.second());
    for ((value, found), scale) in first.iter().zip(firsts).zip(scales(&first)) {
        let roots = [value.abs(), found.abs()].map(|value| (value / scale).sqrt());
        assert!(
            (roots[0] - roots[1]).abs() <= 1.001 / 127.0,
            "{value} {found}"
        );
        assert!(value * found >= 0.0);
    }
    for ((value, found), scale) in second.iter().zip(seconds).zip(scales(&second)) {
        let roots = [*value, found].map(|value| (value / scale).sqrt().sqrt());
        assert!(
            (roots[0] - roots[1]).abs() <= 1.001 / 255.0,
            "{value} {found}"
        );
        assert!(*value == 0.0 || found > 0.0);
    }
}

#[test]
fn a_step_moves_the_weights_as_in_f32() {
    let (gradients, before) = (values(1, COUNT), values(2, COUNT));
    let mut moments = Moments8::of(&values(3, COUNT), &squares(4), 5);
    let (mut first, mut second) = (moments.first(), moments.second());
    let (mut weights, mut expected) = (before.clone(), before);
    adamw(&mut weights, &mut moments, &gradients, &SETTINGS, 6);
    update::adamw(
        &mut expected,
        &mut first,
        &mut second,
        &gradients,
        &SETTINGS,
    );
    // The same operations on the same moments; these are rounded afterwards.
    assert_eq!(bits(&weights), bits(&expected));
    for ((new, rounded), scale) in first.iter().zip(moments.first()).zip(scales(&first)) {
        let roots = [new.abs(), rounded.abs()].map(|value| (value / scale).sqrt());
        assert!((roots[0] - roots[1]).abs() <= 1.001 / 127.0);
    }
}

#[test]
fn rounding_is_right_on_average() {
    const FEW: usize = 8 * BLOCK;
    // In each block, one gradient that stays large, and small ones.
    let gradients = |small: f32| -> Vec<f32> {
        let one = |place| if place % BLOCK == 0 { 1.0 } else { small };
        (0..FEW).map(one).collect()
    };
    let settings = AdamW {
        scale: 1.0,
        beta2: 0.999,
        ..SETTINGS
    };
    let (mut weights, mut moments) = (vec![0.0; FEW], Moments8::zeros(FEW, true));
    let (mut first, mut second) = (vec![0.0; FEW], vec![0.0; FEW]);
    let mut steps = |gradients: &[f32], seeds: std::ops::Range<u64>| {
        for seed in seeds {
            adamw(&mut weights, &mut moments, gradients, &settings, seed);
            let weights = &mut vec![0.0; FEW];
            update::adamw(weights, &mut first, &mut second, gradients, &settings);
        }
        let mean = |values: &[f32]| {
            let small = values.iter().enumerate();
            let small = small.filter(|(place, _)| place % BLOCK > 0);
            small.map(|(_, value)| f64::from(*value)).sum::<f64>()
        };
        [
            mean(&moments.first()) / mean(&first),
            mean(&moments.second()) / mean(&second),
        ]
    };
    // A second moment changes by a thousandth a step, a quarter of a thousandth of its root.
    let grown = steps(&gradients(1e-2), 0..1500);
    let near = |ratio: f64| (ratio - 1.0).abs() < 0.04;
    assert!(grown.into_iter().all(near), "{grown:?}");
    let [_, faded] = steps(&gradients(0.0), 1500..2000);
    assert!((faded - 1.0).abs() < 0.1, "{faded}");
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads_but_on_the_seed() {
    let (gradients, first, second) = (values(1, COUNT), values(2, COUNT), squares(3));
    let step = |seed| {
        let (mut weights, mut moments) = (values(4, COUNT), Moments8::of(&first, &second, 5));
        adamw(&mut weights, &mut moments, &gradients, &SETTINGS, seed);
        (bits(&weights), moments)
    };
    let alone = on_any_number_of_threads(|| step(6));
    let other = step(7);
    assert!(alone.0 == other.0 && alone.1 != other.1);
}

#[test]
fn avx2_changes_no_bit() {
    let gradients = values(1, BLOCK);
    type Step = fn(Block<'_>, &AdamW);
    let [avx2, plain] = [adamw_block as Step, adamw_any].map(|step| {
        let mut moments = Moments8::of(&values(2, BLOCK), &squares(3)[..BLOCK], 4);
        let mut weights = values(5, BLOCK);
        let Moments8 { first, second } = &mut moments;
        let block = Block {
            weights: &mut weights,
            gradients: &gradients,
            first: (&mut first.codes, &mut first.scales[0]),
            second: (&mut second.codes, &mut second.scales[0]),
            key: 6,
        };
        step(block, &SETTINGS);
        (bits(&weights), moments)
    });
    assert!(avx2 == plain);
}

#[test]
fn moments_survive_writing_and_reading() {
    for has_second in [true, false] {
        let second = if has_second { squares(2) } else { Vec::new() };
        let moments = Moments8::of(&values(1, COUNT), &second, 3);
        let mut bytes = Vec::new();
        moments.write(&mut bytes).unwrap();
        let read = |bytes: &[u8]| Moments8::read(&mut &bytes[..], COUNT, has_second);
        assert_eq!(read(&bytes).unwrap(), moments);
        assert!(read(&bytes[..bytes.len() - 1]).is_err());
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        let refused = read(&bytes).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
    assert!(!Moments8::of(&[f32::INFINITY], &[], 1).are_finite());
}

#[test]
fn moments_of_zero_stay_zero_and_fading_ones_are_never_denormal() {
    let (mut weights, mut moments) = ([1.0; 2], Moments8::of(&[1e-3, 0.0], &[1e-6, 0.0], 1));
    for seed in 0..3000 {
        adamw(&mut weights, &mut moments, &[0.0; 2], &SETTINGS, seed);
        for value in moments.first().into_iter().chain(moments.second()) {
            assert!(!value.is_subnormal(), "{value:e}");
        }
        assert_eq!((moments.first()[1], moments.second()[1]), (0.0, 0.0));
    }
    assert_eq!((moments.first()[0], moments.second()[0]), (0.0, 0.0));
}
