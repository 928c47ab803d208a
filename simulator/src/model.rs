//! A small language model: log-bilinear, after Mnih and Hinton (ICML 2007).
//!
//! Each of the two tokens before the next one has a vector for its place. Their sum is compared
//! with a vector of every token, and a softmax over the products and a bias is the prediction.

use std::ops::Range;

use weal_coordinator_free::sim::Random;
use weal_kernels::{Error, Layout, TensorSpec};

use crate::source::{Example, VOCABULARY};

/// The length of a token's vectors.
const WIDTH: usize = 24;
const TABLE: usize = VOCABULARY * WIDTH;

/// Where each tensor lies in the flat vector of parameters.
const EARLIER: Range<usize> = 0..TABLE;
const LAST: Range<usize> = TABLE..2 * TABLE;
const NEXT: Range<usize> = 2 * TABLE..3 * TABLE;
const BIAS: Range<usize> = 3 * TABLE..3 * TABLE + VOCABULARY;

/// The number of parameters.
pub(crate) const PARAMETERS: usize = BIAS.end;

/// The model's tensors.
///
/// # Errors
/// None: the names and shapes are fixed.
pub(crate) fn layout() -> Result<Layout, Error> {
    Layout::new(vec![
        TensorSpec::new("earlier", [VOCABULARY, WIDTH]),
        TensorSpec::new("last", [VOCABULARY, WIDTH]),
        TensorSpec::new("next", [VOCABULARY, WIDTH]),
        TensorSpec::new("bias", [VOCABULARY]),
    ])
}

/// Weights to begin with.
pub(crate) fn initial(seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut weights: Vec<f32> = (0..PARAMETERS).map(|_| 0.1 * normal(&mut random)).collect();
    weights[BIAS].fill(0.0);
    weights
}

/// A number from about the standard normal distribution: twelve uniform ones, summed.
pub(crate) fn normal(random: &mut Random) -> f32 {
    let uniform = |random: &mut Random| (random.next() >> 40) as f32 / (1u64 << 24) as f32;
    (0..12).map(|_| uniform(random)).sum::<f32>() - 6.0
}

/// The mean loss of these examples, in nats.
pub(crate) fn loss(weights: &[f32], examples: &[Example]) -> f64 {
    let total: f64 = examples
        .iter()
        .map(|example| f64::from(Forward::of(weights, example).loss(example)))
        .sum();
    total / examples.len().max(1) as f64
}

/// Adds the gradient of the examples' mean loss to `gradient`.
pub(crate) fn add_gradient(weights: &[f32], examples: &[Example], gradient: &mut [f32]) {
    let share = 1.0 / examples.len().max(1) as f32;
    for example in examples {
        Forward::of(weights, example).backward(weights, example, share, gradient);
    }
}

/// The prediction of one example.
struct Forward {
    hidden: [f32; WIDTH],
    chances: [f32; VOCABULARY],
}

/// The row of a token in a table.
fn row(table: Range<usize>, token: usize) -> Range<usize> {
    let start = table.start + token * WIDTH;
    start..start + WIDTH
}

/// The rows of the tokens that an example is predicted from.
fn inputs(example: &Example) -> [Range<usize>; 2] {
    let [earlier, last] = example.context.map(usize::from);
    [row(EARLIER, earlier), row(LAST, last)]
}

impl Forward {
    fn of(weights: &[f32], example: &Example) -> Self {
        let mut hidden = [0.0; WIDTH];
        for input in inputs(example) {
            add(&mut hidden, 1.0, &weights[input]);
        }
        let mut chances = [0.0; VOCABULARY];
        for (token, chance) in chances.iter_mut().enumerate() {
            *chance = weights[BIAS.start + token] + dot(&hidden, &weights[row(NEXT, token)]);
        }
        let most = chances.iter().copied().fold(f32::MIN, f32::max);
        chances
            .iter_mut()
            .for_each(|chance| *chance = (*chance - most).exp());
        let total: f32 = chances.iter().sum();
        chances.iter_mut().for_each(|chance| *chance /= total);
        Self { hidden, chances }
    }

    fn loss(&self, example: &Example) -> f32 {
        -self.chances[usize::from(example.next)]
            .max(f32::MIN_POSITIVE)
            .ln()
    }

    fn backward(&self, weights: &[f32], example: &Example, share: f32, gradient: &mut [f32]) {
        let mut back = [0.0; WIDTH];
        for (token, &chance) in self.chances.iter().enumerate() {
            let wanted = f32::from(u8::from(token == usize::from(example.next)));
            let slope = share * (chance - wanted);
            gradient[BIAS.start + token] += slope;
            let next = row(NEXT, token);
            add(&mut gradient[next.clone()], slope, &self.hidden);
            add(&mut back, slope, &weights[next]);
        }
        for input in inputs(example) {
            add(&mut gradient[input], 1.0, &back);
        }
    }
}

fn dot(left: &[f32; WIDTH], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

fn add(sums: &mut [f32], factor: f32, values: &[f32]) {
    sums.iter_mut()
        .zip(values)
        .for_each(|(sum, value)| *sum += factor * value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let weights = initial(1);
        let examples = Source::training(2).examples(0..4);
        let mut gradient = vec![0.0; PARAMETERS];
        add_gradient(&weights, &examples, &mut gradient);
        for place in (0..PARAMETERS).step_by(97) {
            let moved = |by: f32| {
                let mut weights = weights.clone();
                weights[place] += by;
                loss(&weights, &examples)
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            let given = f64::from(gradient[place]);
            assert!((slope - given).abs() < 1e-3, "{place}: {slope} {given}");
        }
    }
}
