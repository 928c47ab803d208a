//! Causal softmax on the processor, forward and backward, each over a row that stays in the cache.
//!
//! A row of scores s₁ … sₙ, of which the query may see those from u to v, becomes
//!
//! ```text
//! pᵢ = exp(sᵢ − m) / Σⱼ exp(sⱼ − m)   for u ≤ i ≤ v; j and the largest score m, too, from u to v
//! pᵢ = 0                              elsewhere
//! ```
//!
//! The gradient gᵢ of the weights becomes pᵢ (gᵢ − Σⱼ pⱼ gⱼ), the gradient of the scores. Scores
//! that the query may not see, half of a causal window, are neither read nor computed. Weights and
//! gradients below [`LEAST`] become zero: products with denormal numbers are many times slower.
//!
//! Nothing that peers agree on depends on these functions.

use std::ops::Range;

use rayon::prelude::*;

use crate::exp::exp;
use crate::flush::flush;
use crate::simd::multiversion;

/// Partial sums kept side by side.
const LANES: usize = 16;
/// Values per parallel task.
const TASK: usize = 1 << 15;
/// Smaller weights and gradients become zero.
pub const LEAST: f32 = 1e-30;

/// Which scores the rows of a table hold, and which of them each row's query may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CausalRows {
    /// Scores in a row, one for each key.
    pub keys: usize,
    /// Rows come in groups of that many. The last query of a group is at the last key's position,
    /// the one before it one position earlier, and so on: query q, from 0, sees no key after number
    /// `keys − queries + q`.
    pub queries: usize,
    /// The most keys that a query sees, its own included; `usize::MAX` for all before it.
    pub window: usize,
}

impl CausalRows {
    /// The keys that the query of a row sees.
    fn seen(&self, row: usize) -> Range<usize> {
        let end = self.keys - self.queries + row % self.queries + 1;
        end.saturating_sub(self.window)..end
    }

    /// # Panics
    /// If a query would see no key.
    fn check(&self) {
        let Self {
            keys,
            queries,
            window,
        } = *self;
        assert!(
            (1..=keys).contains(&queries),
            "{queries} queries cannot be the last of {keys} keys"
        );
        assert!(window > 0, "a query sees its own key");
    }

    /// Rows in one parallel task.
    fn at_once(&self) -> usize {
        (TASK / self.keys).max(1)
    }
}

/// Turns rows of scores into attention weights, in place.
///
/// # Panics
/// If `rows.queries` is 0 or greater than `rows.keys`, or `rows.window` is 0.
pub fn causal_softmax(scores: &mut [f32], rows: &CausalRows) {
    rows.check();
    let (keys, at_once) = (rows.keys, rows.at_once());
    scores
        .par_chunks_mut(at_once * keys)
        .enumerate()
        .for_each(|(task, scores)| {
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                let seen = rows.seen(task * at_once + row);
                softmax_row(&mut scores[seen.clone()]);
                scores[..seen.start].fill(0.0);
                scores[seen.end..].fill(0.0);
            }
        });
}

/// Turns gradients of the weights into gradients of the scores, in place. `weights` is the result
/// of [`causal_softmax`].
///
/// # Panics
/// If the slices differ in length, or as [`causal_softmax`] does.
pub fn causal_softmax_backward(weights: &[f32], gradients: &mut [f32], rows: &CausalRows) {
    rows.check();
    assert_eq!(
        weights.len(),
        gradients.len(),
        "a gradient for every weight"
    );
    let (keys, at_once) = (rows.keys, rows.at_once());
    let both = gradients
        .par_chunks_mut(at_once * keys)
        .zip(weights.par_chunks(at_once * keys))
        .enumerate();
    both.for_each(|(task, (gradients, weights))| {
        for (row, (gradients, weights)) in gradients
            .chunks_exact_mut(keys)
            .zip(weights.chunks_exact(keys))
            .enumerate()
        {
            let seen = rows.seen(task * at_once + row);
            backward_row(&weights[seen.clone()], &mut gradients[seen.clone()]);
            gradients[..seen.start].fill(0.0);
            gradients[seen.end..].fill(0.0);
        }
    });
}

multiversion! {
    /// See [`softmax_any`].
    fn softmax_row(scores: &mut [f32]) -> () = softmax_any
}

multiversion! {
    /// See [`backward_any`].
    fn backward_row(weights: &[f32], gradients: &mut [f32]) -> () = backward_any
}

#[inline(always)]
fn softmax_any(scores: &mut [f32]) {
    let most = lanes(scores, f32::NEG_INFINITY, |most, score| {
        if score > most { score } else { most }
    });
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = exp(*score - most);
    }
    let sum: f32 = lanes(scores, 0.0, |sum, value| sum + value)
        .into_iter()
        .sum();
    let share = 1.0 / sum;
    for score in scores.iter_mut() {
        *score = flush(*score * share, LEAST);
    }
}

#[inline(always)]
fn backward_any(weights: &[f32], gradients: &mut [f32]) {
    let mut sums = [0.0_f32; LANES];
    let (weight_lanes, weight_rest) = weights.as_chunks::<LANES>();
    let (gradient_lanes, gradient_rest) = gradients.as_chunks::<LANES>();
    for (weights, gradients) in weight_lanes.iter().zip(gradient_lanes) {
        for lane in 0..LANES {
            sums[lane] += weights[lane] * gradients[lane];
        }
    }
    let rest: f32 = weight_rest
        .iter()
        .zip(gradient_rest)
        .map(|(weight, gradient)| weight * gradient)
        .sum();
    let mean = sums.into_iter().sum::<f32>() + rest;
    for (gradient, weight) in gradients.iter_mut().zip(weights) {
        *gradient = flush(weight * (*gradient - mean), LEAST);
    }
}

/// Folds the values into [`LANES`] partial results.
#[inline(always)]
fn lanes(values: &[f32], start: f32, fold: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut folded = [start; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            folded[lane] = fold(folded[lane], chunk[lane]);
        }
    }
    for (folded, value) in folded.iter_mut().zip(rest) {
        *folded = fold(*folded, *value);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weal_testing::SplitMix64;

    /// The formulas above, in f64.
    fn plain(scores: &[f32], seen: Range<usize>) -> Vec<f64> {
        let most = scores[seen.clone()]
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        let exponential = |place: usize| f64::from(scores[place] - most).exp();
        let sum: f64 = seen.clone().map(exponential).sum();
        let weight = |place| {
            if seen.contains(&place) {
                exponential(place) / sum
            } else {
                0.0
            }
        };
        (0..scores.len()).map(weight).collect()
    }

    proptest! {
        #[test]
        fn weights_and_gradients_match_the_formulas(
            keys in 1_usize..70,
            part in 0_usize..70,
            groups in 1_usize..4,
            window in prop_oneof![1_usize..80, Just(usize::MAX)],
            seed: u64,
            scale in 0.1_f32..30.0,
        ) {
            let queries = 1 + part % keys;
            let mut random = SplitMix64(seed);
            let mut numbers = |scale: f32| -> Vec<f32> {
                let unit = |bits: u64| bits as f32 / u64::MAX as f32 - 0.5;
                let count = groups * queries * keys;
                (0..count).map(|_| unit(random.next()) * scale).collect()
            };
            let (scores, gradients) = (numbers(scale), numbers(1.0));
            let (mut weights, mut back) = (scores.clone(), gradients.clone());
            let rows = CausalRows { keys, queries, window };
            causal_softmax(&mut weights, &rows);
            causal_softmax_backward(&weights, &mut back, &rows);
            for row in 0..groups * queries {
                let places = row * keys..(row + 1) * keys;
                let end = keys - queries + row % queries + 1;
                let seen = end.saturating_sub(window)..end;
                let expected = plain(&scores[places.clone()], seen);
                let pairs = expected.iter().zip(&gradients[places.clone()]);
                let mean: f64 = pairs.map(|(p, g)| p * f64::from(*g)).sum();
                for (place, expected) in places.zip(expected) {
                    prop_assert!((f64::from(weights[place]) - expected).abs() < 1e-5);
                    let gradient = expected * (f64::from(gradients[place]) - mean);
                    prop_assert!((f64::from(back[place]) - gradient).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn large_batches_are_split_between_rows() {
        let (keys, queries) = (100, 7);
        let rows = CausalRows {
            keys,
            queries,
            window: usize::MAX,
        };
        let scores: Vec<f32> = (0..keys * queries * 200).map(|i| (i % 13) as f32).collect();
        let mut together = scores.clone();
        causal_softmax(&mut together, &rows);
        for (scores, together) in scores
            .chunks(keys * queries)
            .zip(together.chunks(keys * queries))
        {
            let mut alone = scores.to_vec();
            causal_softmax(&mut alone, &rows);
            assert_eq!(alone, together);
        }
    }

    #[test]
    #[should_panic(expected = "queries cannot be")]
    fn more_queries_than_keys_panic() {
        let rows = CausalRows {
            keys: 2,
            queries: 3,
            window: usize::MAX,
        };
        causal_softmax(&mut [0.0; 6], &rows);
    }

    #[test]
    fn nothing_is_denormal() {
        // Scores from 0 down to −150: shares far below the smallest normal number.
        let scores: Vec<f32> = (0..151).map(|score| -(score as f32)).collect();
        let rows = CausalRows {
            keys: 151,
            queries: 1,
            window: usize::MAX,
        };
        let mut weights = scores;
        causal_softmax(&mut weights, &rows);
        let mut gradients: Vec<f32> = (0..151).map(|place| 1e-10 * place as f32).collect();
        causal_softmax_backward(&weights, &mut gradients, &rows);
        for value in weights.iter().chain(&gradients) {
            assert!(!value.is_subnormal(), "{value:e}");
        }
        assert!(weights[60] > 0.0 && weights[80] == 0.0 && gradients[0] < 0.0);
        let mut unusable = [f32::NAN, 0.0];
        causal_softmax(
            &mut unusable,
            &CausalRows {
                keys: 2,
                queries: 1,
                window: 2,
            },
        );
        assert!(unusable.iter().all(|value| value.is_nan()));
    }
}
