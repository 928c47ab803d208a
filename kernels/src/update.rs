//! Optimiser steps on the processor, in one pass over memory where tensor operations need many.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²,   w ← κ w − η m / (√(c₂ v) + ε)
//! ```
//!
//! (AdamW; Loshchilov and Hutter, 2019, algorithm 2, <https://arxiv.org/abs/1711.05101>). Here κ is
//! 1 minus the weight decay of the step, and η and c₂ include the correction of the moments' bias.
//! Nothing that peers agree on depends on it.

use rayon::prelude::*;

use crate::flush::flush;
use crate::simd::multiversion;

/// Values per parallel task.
const TASK: usize = 1 << 14;
/// Smaller mean gradients become zero.
pub(crate) const LEAST_FIRST: f32 = 1e-30;
/// Smaller mean squares of gradients become zero.
pub(crate) const LEAST_SECOND: f32 = 1e-36;

/// The scalars of one AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The factor for the gradient; below 1 if it is clipped.
    pub scale: f32,
    /// β₁, the decay of the first moment, the mean gradient.
    pub beta1: f32,
    /// β₂, the decay of the second moment, the mean squared gradient.
    pub beta2: f32,
    /// η, the learning rate divided by the first moment's bias correction.
    pub rate: f32,
    /// c₂, the reciprocal of the second moment's bias correction.
    pub correction2: f32,
    /// ε, added to the square root of the second moment.
    pub epsilon: f32,
    /// κ, the factor for the weights: 1 minus the weight decay of the step.
    pub kept: f32,
}

/// Updates the weights and both moments with a gradient.
///
/// # Panics
/// If the slices differ in length.
pub fn adamw(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradients: &[f32],
    settings: &AdamW,
) {
    let count = weights.len();
    assert!(
        first.len() == count && second.len() == count && gradients.len() == count,
        "a gradient for every weight"
    );
    let moments = first.par_chunks_mut(TASK).zip(second.par_chunks_mut(TASK));
    weights
        .par_chunks_mut(TASK)
        .zip(moments)
        .zip(gradients.par_chunks(TASK))
        .for_each(|((weights, (first, second)), gradients)| {
            adamw_part(weights, first, second, gradients, settings)
        });
}

/// Updates a momentum with a gradient times `scale`, and replaces the gradient by Nesterov's
/// look-ahead: m ← μ m + (1 − μ) g, then g ← (1 − μ) g + μ m. `memory` is μ.
///
/// # Panics
/// If the slices differ in length.
pub fn nesterov(momentum: &mut [f32], gradients: &mut [f32], memory: f32, scale: f32) {
    assert_eq!(
        momentum.len(),
        gradients.len(),
        "a gradient for every momentum"
    );
    let both = momentum
        .par_chunks_mut(TASK)
        .zip(gradients.par_chunks_mut(TASK));
    both.for_each(|(momentum, gradients)| nesterov_part(momentum, gradients, memory, scale));
}

/// Steps the weights: w ← κ w − η s. `kept` is κ, `rate` is η.
///
/// # Panics
/// If the slices differ in length.
pub fn step(weights: &mut [f32], steps: &[f32], kept: f32, rate: f32) {
    assert_eq!(weights.len(), steps.len(), "a step for every weight");
    weights
        .par_chunks_mut(TASK)
        .zip(steps.par_chunks(TASK))
        .for_each(|(weights, steps)| {
            weights
                .iter_mut()
                .zip(steps)
                .for_each(|(weight, step)| *weight = kept * *weight - rate * step);
        });
}

/// The sum of squares in f64, always in the same order.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let parts: Vec<f64> = values.par_chunks(TASK).map(squares_part).collect();
    parts.iter().sum()
}

/// Adds `values` to `sums`.
///
/// # Panics
/// If the slices differ in length.
pub fn add(sums: &mut [f32], values: &[f32]) {
    assert_eq!(sums.len(), values.len(), "a value for every sum");
    sums.par_chunks_mut(TASK)
        .zip(values.par_chunks(TASK))
        .for_each(|(sums, values)| {
            sums.iter_mut()
                .zip(values)
                .for_each(|(sum, value)| *sum += value);
        });
}

multiversion! {
    /// See [`adamw`].
    fn adamw_part(
        weights: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        gradients: &[f32],
        settings: &AdamW,
    ) -> () =
        adamw_any
}

multiversion! {
    /// See [`nesterov`].
    fn nesterov_part(momentum: &mut [f32], gradients: &mut [f32], memory: f32, scale: f32) -> ()
        = nesterov_any
}

multiversion! {
    /// See [`sum_of_squares`].
    fn squares_part(values: &[f32]) -> f64 = squares_any
}

#[inline(always)]
fn adamw_any(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradients: &[f32],
    settings: &AdamW,
) {
    let AdamW {
        scale,
        beta1,
        beta2,
        rate,
        correction2,
        epsilon,
        kept,
    } = *settings;
    for (((weight, m), v), gradient) in weights.iter_mut().zip(first).zip(second).zip(gradients) {
        let gradient = gradient * scale;
        let (one, two) = (1.0 - beta1, 1.0 - beta2);
        *m = flush(*m * beta1 + gradient * one, LEAST_FIRST);
        *v = flush(*v * beta2 + gradient * gradient * two, LEAST_SECOND);
        *weight = *weight * kept - *m * rate / ((*v * correction2).sqrt() + epsilon);
    }
}

#[inline(always)]
fn nesterov_any(momentum: &mut [f32], gradients: &mut [f32], memory: f32, scale: f32) {
    for (m, gradient) in momentum.iter_mut().zip(gradients) {
        let new = *gradient * scale * (1.0 - memory);
        *m = flush(*m * memory + new, LEAST_FIRST);
        *gradient = new + *m * memory;
    }
}

#[inline(always)]
fn squares_any(values: &[f32]) -> f64 {
    // Eight partial sums, which compilers vectorise without changing the order of additions.
    let mut sums = [0.0; 8];
    for eight in values.chunks(8) {
        for (sum, value) in sums.iter_mut().zip(eight) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum()
}

/// Settings for tests.
#[cfg(test)]
pub(crate) const SETTINGS: AdamW = AdamW {
    scale: 0.5,
    beta1: 0.9,
    beta2: 0.95,
    rate: 1e-2,
    correction2: 1.0 / (1.0 - 0.95),
    epsilon: 1e-8,
    kept: 0.999,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: usize) -> Vec<f32> {
        (0..TASK + 1003)
            .map(|i| ((i * seed % 2001) as f32 - 1000.0) / 500.0)
            .collect()
    }

    fn near(found: f32, expected: f64) -> bool {
        (f64::from(found) - expected).abs() <= 1e-5 * expected.abs().max(1.0)
    }

    #[test]
    fn weights_and_moments_match_the_formulas() {
        let (before, m, gradients) = (values(37), values(53), values(71));
        let v: Vec<f32> = values(29).iter().map(|value| value.abs()).collect();
        let (mut weights, mut first, mut second) = (before.clone(), m.clone(), v.clone());
        adamw(&mut weights, &mut first, &mut second, &gradients, &SETTINGS);
        for i in 0..before.len() {
            let [w, m, v, g] = [before[i], m[i], v[i], gradients[i] * 0.5].map(f64::from);
            let (m, v) = (0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g);
            assert!(near(first[i], m) && near(second[i], v), "{i}");
            assert!(
                near(
                    weights[i],
                    0.999 * w - 1e-2 * m / ((v * 20.0).sqrt() + 1e-8)
                ),
                "{i}"
            );
        }
    }

    #[test]
    fn nesterov_and_step_match_the_formulas() {
        let (m, g, before) = (values(37), values(53), values(71));
        let (mut momentum, mut ahead, mut weights) = (m.clone(), g.clone(), before.clone());
        nesterov(&mut momentum, &mut ahead, 0.95, 0.5);
        step(&mut weights, &ahead, 0.9, 0.1);
        for i in 0..m.len() {
            let (expected, g) = (
                0.95 * f64::from(m[i]) + 0.05 * 0.5 * f64::from(g[i]),
                0.5 * f64::from(g[i]),
            );
            assert!(
                near(momentum[i], expected) && near(ahead[i], 0.05 * g + 0.95 * expected),
                "{i}"
            );
            assert!(
                near(
                    weights[i],
                    0.9 * f64::from(before[i]) - 0.1 * f64::from(ahead[i])
                ),
                "{i}"
            );
        }
    }

    #[test]
    fn sums_are_correct() {
        let (values, more) = (values(37), values(53));
        let expected: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        assert!((sum_of_squares(&values) / expected - 1.0).abs() < 1e-12);
        let mut sums = values.clone();
        add(&mut sums, &more);
        assert!(
            sums.iter()
                .zip(values.iter().zip(&more))
                .all(|(sum, (one, other))| *sum == one + other)
        );
    }

    #[test]
    fn avx2_changes_no_bit() {
        let gradients = values(71);
        type Update = fn(&mut [f32], &mut [f32], &mut [f32], &[f32], &AdamW);
        let [avx2, plain] = [adamw_part as Update, adamw_any].map(|update| {
            let (mut weights, mut first, mut second) =
                (values(37), values(53), vec![0.25; gradients.len()]);
            update(&mut weights, &mut first, &mut second, &gradients, &SETTINGS);
            [weights, first, second]
                .concat()
                .into_iter()
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        });
        assert!(avx2 == plain);
        let [avx2, plain] =
            [squares_part as fn(&[f32]) -> f64, squares_any].map(|sum| sum(&gradients).to_bits());
        assert_eq!(avx2, plain);
    }

    #[test]
    fn nan_stays_nan() {
        let (mut weights, mut first, mut second) = ([1.0], [0.0], [0.0]);
        adamw(
            &mut weights,
            &mut first,
            &mut second,
            &[f32::NAN],
            &SETTINGS,
        );
        assert!(weights[0].is_nan() && sum_of_squares(&[f32::NAN]).is_nan());
    }

    #[test]
    fn moments_that_fade_never_become_denormal() {
        let (mut weights, mut first, mut second) = ([1.0], [1e-3], [1e-6]);
        let mut momentum = [1e-3];
        let mut last = f32::MAX;
        for _ in 0..3000 {
            adamw(&mut weights, &mut first, &mut second, &[0.0], &SETTINGS);
            nesterov(&mut momentum, &mut [0.0], 0.95, 1.0);
            for value in [first[0], second[0], momentum[0]] {
                assert!(!value.is_subnormal(), "{value:e}");
            }
            assert!(first[0] <= last);
            last = first[0];
        }
        assert_eq!([first[0], second[0], momentum[0]], [0.0; 3]);
    }
}
