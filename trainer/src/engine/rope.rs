//! Rotary positions (Su et al., 2021, <https://arxiv.org/abs/2104.09864>) in Hugging Face's
//! half-split convention: component i rotates together with component i + head width / 2.

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};

use crate::spec::{ModelSpec, RopeScaling};

/// Rotates queries and keys on a device, for a range of positions.
///
/// A pair (a, b) becomes (a cos − b sin, b cos + a sin): the vector times its cosines plus the
/// vector rotated by a quarter turn, (−b, a), times its sines. The quarter turn is a product with a
/// matrix of zeros and ±1, which is exact and on every device faster than slicing the vectors.
#[derive(Clone)]
pub(super) struct Rotation {
    /// Cosines and sines for keys, each `[1, 1, tokens, head width]`.
    key: [Tensor<4>; 2],
    /// The same for queries, divided by the root of the head width, which scales the scores.
    query: [Tensor<4>; 2],
    /// `[1, 1, head width, head width]`
    quarter: Tensor<4>,
}

impl Rotation {
    /// A rotation for the positions `0..length`.
    pub(super) fn new(spec: &ModelSpec, length: usize, device: &Device) -> Self {
        let (frequencies, width) = (frequencies(spec), spec.head_width());
        let half = width / 2;
        let table = |scale: f64, of: fn(f64) -> f64| {
            let places = (0..length)
                .flat_map(|position| (0..width).map(move |index| (position, index % half)));
            let value =
                |(position, pair): (usize, usize)| scale * of(position as f64 * frequencies[pair]);
            let values: Vec<f32> = places.map(|place| value(place) as f32).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, length, width]), device)
        };
        let table = &table;
        let scale = 1.0 / (width as f64).sqrt();
        let mut quarter = vec![0.0_f32; width * width];
        for index in 0..half {
            quarter[(index + half) * width + index] = -1.0;
            quarter[index * width + index + half] = 1.0;
        }
        Self {
            key: [table(1.0, f64::cos), table(1.0, f64::sin)],
            query: [table(scale, f64::cos), table(scale, f64::sin)],
            quarter: Tensor::from_data(TensorData::new(quarter, [1, 1, width, width]), device),
        }
    }

    /// The rotation for the positions `from .. from + count` of these.
    pub(super) fn part(&self, from: usize, count: usize) -> Self {
        let part = |tables: &[Tensor<4>; 2]| {
            tables
                .each_ref()
                .map(|table| table.clone().narrow(2, from, count))
        };
        Self {
            key: part(&self.key),
            query: part(&self.query),
            quarter: self.quarter.clone(),
        }
    }

    /// Rotates and scales queries, `[sequences, heads, tokens, head width]`.
    pub(super) fn rotate_query(&self, query: Tensor<4>) -> Tensor<4> {
        self.rotate(query, &self.query)
    }

    /// Rotates keys of the same shape.
    pub(super) fn rotate_key(&self, key: Tensor<4>) -> Tensor<4> {
        self.rotate(key, &self.key)
    }

    fn rotate(&self, x: Tensor<4>, [cos, sin]: &[Tensor<4>; 2]) -> Tensor<4> {
        x.clone() * cos.clone() + x.matmul(self.quarter.clone()) * sin.clone()
    }
}

/// Angle of each pair of components from one position to the next, in radians; `[head width / 2]`.
pub(crate) fn frequencies(spec: &ModelSpec) -> Vec<f64> {
    let half = spec.head_width() / 2;
    let plain =
        (0..half).map(|index| f64::from(spec.rope_theta).powf(-(index as f64) / half as f64));
    plain
        .map(|frequency| {
            frequency
                / spec
                    .rope_scaling
                    .map_or(1.0, |scaling| stretch(&scaling, frequency))
        })
        .collect()
}

/// The divisor of a frequency.
fn stretch(scaling: &RopeScaling, frequency: f64) -> f64 {
    let [factor, low, high] = [
        scaling.factor_ppm,
        scaling.low_frequency_ppm,
        scaling.high_frequency_ppm,
    ]
    .map(|ppm| f64::from(ppm) / 1e6);
    let waves = f64::from(scaling.original_context) * frequency / TAU;
    let fast = ((waves - low) / (high - low)).clamp(0.0, 1.0);
    1.0 / ((1.0 - fast) / factor + fast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_rotate_by_the_angles_of_their_positions() {
        let spec = ModelSpec {
            width: 8,
            heads: 2,
            kv_heads: 2,
            ..ModelSpec::preset("nano").unwrap()
        };
        let device = Device::flex();
        let rotation = Rotation::new(&spec, 5, &device).part(2, 3);
        let x = Tensor::<4>::from_data(
            TensorData::new([0.5_f32, -1.0, 2.0, 0.25].repeat(3), [1, 1, 3, 4]),
            &device,
        );
        let rotated = rotation
            .rotate_key(x.clone())
            .try_into_vec_as::<f32>()
            .unwrap();
        let scaled = rotation.rotate_query(x).try_into_vec_as::<f32>().unwrap();
        for (place, position) in [2.0_f32, 3.0, 4.0].into_iter().enumerate() {
            for (pair, frequency) in [1.0_f32, 0.01].into_iter().enumerate() {
                let (a, b) = ([0.5, -1.0][pair], [2.0, 0.25][pair]);
                let (sin, cos) = (position * frequency).sin_cos();
                let expected = [(pair, a * cos - b * sin), (pair + 2, b * cos + a * sin)];
                for (component, expected) in expected {
                    assert!((rotated[place * 4 + component] - expected).abs() < 1e-6);
                    assert!((scaled[place * 4 + component] - expected / 2.0).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn slow_frequencies_are_stretched_and_fast_ones_are_not() {
        let scaling = RopeScaling {
            factor_ppm: 8_000_000,
            low_frequency_ppm: 1_000_000,
            high_frequency_ppm: 4_000_000,
            original_context: 8192,
        };
        // Waves of 8192 tokens and longer are slow, of 2048 and shorter fast; half way between is
        // (1/8 + 1) / 2.
        assert_eq!(stretch(&scaling, TAU / 10_000.0), 8.0);
        assert_eq!(stretch(&scaling, TAU / 2_000.0), 1.0);
        assert!((stretch(&scaling, TAU * 2.5 / 8192.0) - 16.0 / 9.0).abs() < 1e-12);
    }
}
