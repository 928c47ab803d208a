//! Rotary positions (Su et al., 2021, <https://arxiv.org/abs/2104.09864>) in Hugging Face's
//! half-split convention: component i rotates together with component i + head width / 2. A GPU
//! does it in one pass; the CPU as described at [`Rotation`].

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};

use crate::engine::fused;
use crate::features::{LayerKind, RopeScaling, RopeScalingKind};
use crate::spec::ModelSpec;

/// The rotations of all layers, for a range of positions.
#[derive(Clone)]
pub(super) struct Rotations {
    usual: Rotation,
    /// Of windowed layers, if they rotate in another way.
    windowed: Option<Rotation>,
    /// Factor of queries that are not rotated.
    scale: f64,
    length: usize,
}

impl Rotations {
    /// The rotations for the positions `0..length`.
    pub(super) fn new(spec: &ModelSpec, length: usize, device: &Device) -> Self {
        let rotation = |angles| Rotation::new(spec, &angles, length, device);
        let theta = spec.features.window_rope_theta;
        Self {
            usual: rotation(Angles::of(spec)),
            windowed: theta.map(|theta| rotation(Angles::unscaled(spec, theta))),
            scale: spec.score_scale(),
            length,
        }
    }

    /// Rows as heads.
    pub(super) fn heads(&self, rows: Tensor<2>) -> Tensor<4> {
        let ([count, columns], width) = (rows.dims(), self.usual.width());
        rows.reshape([count / self.length, self.length, columns / width, width])
            .swap_dims(1, 2)
    }

    /// The rotations for the positions `from .. from + count` of these.
    pub(super) fn part(&self, from: usize, count: usize) -> Self {
        Self {
            usual: self.usual.part(from, count),
            windowed: self
                .windowed
                .as_ref()
                .map(|rotation| rotation.part(from, count)),
            scale: self.scale,
            length: count,
        }
    }

    /// Rotates and scales queries, and rotates keys, of one layer. They are rows,
    /// `[sequences · tokens, heads · head width]`, and become heads,
    /// `[sequences, heads, tokens, head width]`.
    pub(super) fn rotate(
        &self,
        kind: LayerKind,
        query: Tensor<2>,
        key: Tensor<2>,
    ) -> [Tensor<4>; 2] {
        if kind.unrotated {
            return [self.heads(query).mul_scalar(self.scale), self.heads(key)];
        }
        let own = self.windowed.as_ref().filter(|_| kind.windowed);
        let rotation = own.unwrap_or(&self.usual);
        [(query, &rotation.query), (key, &rotation.key)].map(|(rows, tables)| {
            if fused::is_cpu(&rows.device()) {
                rotation.rotate(self.heads(rows), tables)
            } else {
                fused::gpu::rotate(rows, tables.clone(), rotation.half)
            }
        })
    }
}

/// Rotates queries and keys on a device, for a range of positions.
///
/// A pair (a, b) becomes (a cos − b sin, b cos + a sin): the vector times its cosines plus the
/// vector rotated by a quarter turn, (−b, a), times its sines. The quarter turn is a product with a
/// matrix of zeros and ±1, which is exact and on every device faster than slicing the vectors.
/// Components that do not rotate have a cosine of one and a sine of zero.
#[derive(Clone)]
struct Rotation {
    /// Cosines and sines for keys, each `[1, 1, tokens, head width]`.
    key: [Tensor<4>; 2],
    /// The same for queries, with the factor of the scores.
    query: [Tensor<4>; 2],
    /// `[1, 1, head width, head width]`
    quarter: Tensor<4>,
    /// Half of the components that rotate.
    half: usize,
}

impl Rotation {
    /// A rotation for the positions `0..length`.
    fn new(spec: &ModelSpec, angles: &Angles, length: usize, device: &Device) -> Self {
        let (width, rotary) = (spec.head_width(), spec.rotary_width());
        let half = rotary / 2;
        let table = |scale: f64, of: fn(f64) -> f64| {
            let value = |position: usize, index: usize| {
                if index < rotary {
                    let angle = position as f64 * angles.frequencies[index % half];
                    scale * angles.factor * of(angle)
                } else {
                    scale * of(0.0)
                }
            };
            let value = &value;
            let values: Vec<f32> = (0..length)
                .flat_map(|position| (0..width).map(move |index| value(position, index) as f32))
                .collect();
            Tensor::from_data(TensorData::new(values, [1, 1, length, width]), device)
        };
        let table = &table;
        let scale = spec.score_scale();
        let mut quarter = vec![0.0_f32; width * width];
        for index in 0..half {
            quarter[(index + half) * width + index] = -1.0;
            quarter[index * width + index + half] = 1.0;
        }
        Self {
            key: [table(1.0, f64::cos), table(1.0, f64::sin)],
            query: [table(scale, f64::cos), table(scale, f64::sin)],
            quarter: Tensor::from_data(TensorData::new(quarter, [1, 1, width, width]), device),
            half,
        }
    }

    /// The rotation for the positions `from .. from + count` of these.
    fn part(&self, from: usize, count: usize) -> Self {
        let part = |tables: &[Tensor<4>; 2]| {
            tables
                .each_ref()
                .map(|table| table.clone().narrow(2, from, count))
        };
        Self {
            key: part(&self.key),
            query: part(&self.query),
            quarter: self.quarter.clone(),
            half: self.half,
        }
    }

    /// Components of a head.
    fn width(&self) -> usize {
        self.quarter.dims()[3]
    }

    fn rotate(&self, x: Tensor<4>, [cos, sin]: &[Tensor<4>; 2]) -> Tensor<4> {
        x.clone() * cos.clone() + x.matmul(self.quarter.clone()) * sin.clone()
    }
}

/// How far pairs of components turn from one position to the next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Angles {
    /// In radians; `[rotary width / 2]`.
    pub frequencies: Vec<f64>,
    /// Factor of rotated queries and keys.
    pub factor: f64,
}

impl Angles {
    /// Those of layers that are not windowed.
    pub(crate) fn of(spec: &ModelSpec) -> Self {
        let plain = Self::unscaled(spec, spec.rope_theta);
        match &spec.rope_scaling {
            Some(scaling) => plain.scaled(scaling, f64::from(spec.rope_theta)),
            None => plain,
        }
    }

    /// Those of a base, without any scaling.
    pub(crate) fn unscaled(spec: &ModelSpec, theta: u32) -> Self {
        let half = spec.rotary_width() / 2;
        let frequency = |index| f64::from(theta).powf(-(index as f64) / half as f64);
        Self {
            frequencies: (0..half).map(frequency).collect(),
            factor: 1.0,
        }
    }

    fn scaled(mut self, scaling: &RopeScaling, theta: f64) -> Self {
        let bounds = component_bounds(scaling, theta, self.frequencies.len());
        let factor = f64::from(scaling.factor_ppm) / 1e6;
        for (index, frequency) in self.frequencies.iter_mut().enumerate() {
            // The share of the frequency that stays.
            let fast = match scaling.kind {
                RopeScalingKind::Linear => 0.0,
                RopeScalingKind::Llama3 => fast_by_turns(scaling, *frequency),
                RopeScalingKind::Yarn => {
                    1.0 - ((index as f64 - bounds[0]) / (bounds[1] - bounds[0])).clamp(0.0, 1.0)
                }
            };
            *frequency *= (1.0 - fast) / factor + fast;
        }
        if scaling.kind == RopeScalingKind::Yarn {
            self.factor = f64::from(scaling.attention_factor_ppb) / 1e9;
        }
        self
    }
}

/// The share of a frequency that stays, by the turns it makes in the original context.
fn fast_by_turns(scaling: &RopeScaling, frequency: f64) -> f64 {
    let [low, high] =
        [scaling.low_frequency_ppm, scaling.high_frequency_ppm].map(|ppm| f64::from(ppm) / 1e6);
    let turns = f64::from(scaling.original_context) * frequency / TAU;
    ((turns - low) / (high - low)).clamp(0.0, 1.0)
}

/// The components up to which frequencies are high, and from which on they are low.
fn component_bounds(scaling: &RopeScaling, theta: f64, half: usize) -> [f64; 2] {
    let context = f64::from(scaling.original_context);
    let component = |turns_ppm: u32| {
        let turns = f64::from(turns_ppm) / 1e6;
        half as f64 * (context / (turns * TAU)).ln() / theta.ln()
    };
    let (mut first, mut last) = (
        component(scaling.high_frequency_ppm),
        component(scaling.low_frequency_ppm),
    );
    if scaling.whole_components {
        (first, last) = (first.floor(), last.ceil());
    }
    (first, last) = (first.max(0.0), last.min((2 * half) as f64 - 1.0));
    if first == last {
        // As in Hugging Face, so that nothing is divided by zero.
        last += 0.001;
    }
    [first, last]
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
        let rotation = Rotation::new(&spec, &Angles::of(&spec), 5, &device).part(2, 3);
        let x = Tensor::<4>::from_data(
            TensorData::new([0.5_f32, -1.0, 2.0, 0.25].repeat(3), [1, 1, 3, 4]),
            &device,
        );
        let rotated = rotation
            .rotate(x.clone(), &rotation.key)
            .try_into_vec_as::<f32>()
            .unwrap();
        let scaled = rotation
            .rotate(x, &rotation.query)
            .try_into_vec_as::<f32>()
            .unwrap();
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
            low_frequency_ppm: 1_000_000,
            high_frequency_ppm: 4_000_000,
            original_context: 8192,
            kind: RopeScalingKind::Llama3,
            ..RopeScaling::linear(8_000_000)
        };
        // Waves of 8192 tokens and longer are slow, of 2048 and shorter fast.
        assert_eq!(fast_by_turns(&scaling, TAU / 10_000.0), 0.0);
        assert_eq!(fast_by_turns(&scaling, TAU / 2_000.0), 1.0);
        assert!((fast_by_turns(&scaling, TAU * 2.5 / 8192.0) - 0.5).abs() < 1e-12);
    }
}
