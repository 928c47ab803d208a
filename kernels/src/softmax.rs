//! Causal softmax on the processor, forward and backward, each over a row that stays in the cache.
//!
//! A row of scores s₁ … sₙ, of which the query may see the first v, becomes
//!
//! ```text
//! pᵢ = exp(sᵢ − m) / Σⱼ≤ᵥ exp(sⱼ − m)   for i ≤ v, where m is the largest of s₁ … sᵥ
//! pᵢ = 0                                for i > v
//! ```
//!
//! The gradient gᵢ of the weights becomes pᵢ (gᵢ − Σⱼ pⱼ gⱼ), the gradient of the scores. Scores
//! that the query may not see, half of a causal window, are neither read nor computed.
//!
//! Nothing that peers agree on depends on these functions.

use rayon::prelude::*;

use crate::exp::exp;
use crate::simd::multiversion;

/// Partial sums kept side by side.
const LANES: usize = 16;
/// Values per parallel task.
const TASK: usize = 1 << 15;

/// Turns rows of `keys` scores into attention weights, in place. Rows come in groups of `queries`.
/// The last query of a group sees all keys, the one before it all but one, and so on: query q, from
/// 0, sees the first `keys − queries + q + 1`.
///
/// # Panics
/// If `queries` is 0 or greater than `keys`.
pub fn causal_softmax(scores: &mut [f32], keys: usize, queries: usize) {
    assert!(
        (1..=keys).contains(&queries),
        "{queries} queries cannot be the last of {keys} keys"
    );
    let rows = (TASK / keys).max(1);
    scores
        .par_chunks_mut(rows * keys)
        .enumerate()
        .for_each(|(task, scores)| {
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                let (seen, hidden) =
                    scores.split_at_mut(keys - queries + (task * rows + row) % queries + 1);
                softmax_row(seen);
                hidden.fill(0.0);
            }
        });
}

/// Turns gradients of the weights into gradients of the scores, in place. `weights` is the result
/// of [`causal_softmax`].
///
/// # Panics
/// If the slices differ in length, or as [`causal_softmax`] does.
pub fn causal_softmax_backward(
    weights: &[f32],
    gradients: &mut [f32],
    keys: usize,
    queries: usize,
) {
    assert!(
        (1..=keys).contains(&queries),
        "{queries} queries cannot be the last of {keys} keys"
    );
    assert_eq!(
        weights.len(),
        gradients.len(),
        "a gradient for every weight"
    );
    let rows = (TASK / keys).max(1);
    let both = gradients
        .par_chunks_mut(rows * keys)
        .zip(weights.par_chunks(rows * keys))
        .enumerate();
    both.for_each(|(task, (gradients, weights))| {
        for (row, (gradients, weights)) in gradients
            .chunks_exact_mut(keys)
            .zip(weights.chunks_exact(keys))
            .enumerate()
        {
            let seen = keys - queries + (task * rows + row) % queries + 1;
            let (visible, hidden) = gradients.split_at_mut(seen);
            backward_row(&weights[..seen], visible);
            hidden.fill(0.0);
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
        *score *= share;
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
        *gradient = weight * (*gradient - mean);
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
    fn plain(scores: &[f32], seen: usize) -> Vec<f64> {
        let most = scores[..seen]
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f64> = scores[..seen]
            .iter()
            .map(|score| f64::from(score - most).exp())
            .collect();
        let sum: f64 = exponentials.iter().sum();
        let weights = exponentials.iter().map(|exponential| exponential / sum);
        weights
            .chain(std::iter::repeat(0.0))
            .take(scores.len())
            .collect()
    }

    proptest! {
        #[test]
        fn weights_and_gradients_match_the_formulas(
            keys in 1_usize..70,
            part in 0_usize..70,
            groups in 1_usize..4,
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
            causal_softmax(&mut weights, keys, queries);
            causal_softmax_backward(&weights, &mut back, keys, queries);
            for row in 0..groups * queries {
                let places = row * keys..(row + 1) * keys;
                let seen = keys - queries + row % queries + 1;
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
        let scores: Vec<f32> = (0..keys * queries * 200).map(|i| (i % 13) as f32).collect();
        let mut together = scores.clone();
        causal_softmax(&mut together, keys, queries);
        for (scores, together) in scores
            .chunks(keys * queries)
            .zip(together.chunks(keys * queries))
        {
            let mut alone = scores.to_vec();
            causal_softmax(&mut alone, keys, queries);
            assert_eq!(alone, together);
        }
    }

    #[test]
    #[should_panic(expected = "queries cannot be")]
    fn more_queries_than_keys_panic() {
        causal_softmax(&mut [0.0; 6], 2, 3);
    }
}
