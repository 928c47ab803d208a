//! Rotary positions (Su et al., 2021, <https://arxiv.org/abs/2104.09864>) in Hugging Face's half-split convention:
//! component i turns together with component i + head width / 2.

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};

use crate::spec::{ModelSpec, RopeScaling};

/// Cosines and sines of every angle, each `[context, head width / 2]`.
#[derive(Clone, Debug)]
pub(crate) struct RotaryTable {
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
    /// Half the width of a head.
    pub half: usize,
}

impl RotaryTable {
    pub fn new(spec: &ModelSpec) -> Self {
        let frequencies = frequencies(spec);
        let angle = |position: usize| frequencies.iter().map(move |frequency| position as f64 * frequency);
        let angles = (0..spec.context).flat_map(angle);
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Self { cos, sin, half: frequencies.len() }
    }

    /// Cosines and sines of the first `length` positions, each `[1, 1, length, head width / 2]`.
    pub fn tensors(&self, length: usize, device: &Device) -> [Tensor<4>; 2] {
        [&self.cos, &self.sin].map(|values| {
            let values = values[..length * self.half].to_vec();
            Tensor::from_data(TensorData::new(values, [1, 1, length, self.half]), device)
        })
    }
}

/// Angle of each pair of components from one position to the next, in radians; `[head width / 2]`.
pub(crate) fn frequencies(spec: &ModelSpec) -> Vec<f64> {
    let half = spec.head_width() / 2;
    let plain = (0..half).map(|index| f64::from(spec.rope_theta).powf(-(index as f64) / half as f64));
    plain.map(|frequency| frequency / spec.rope_scaling.map_or(1.0, |scaling| stretch(&scaling, frequency))).collect()
}

/// What a frequency is divided by.
fn stretch(scaling: &RopeScaling, frequency: f64) -> f64 {
    let [factor, low, high] =
        [scaling.factor_ppm, scaling.low_frequency_ppm, scaling.high_frequency_ppm].map(|ppm| f64::from(ppm) / 1e6);
    let waves = f64::from(scaling.original_context) * frequency / TAU;
    let fast = ((waves - low) / (high - low)).clamp(0.0, 1.0);
    1.0 / ((1.0 - fast) / factor + fast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_frequencies_are_stretched_and_fast_ones_are_not() {
        let scaling = RopeScaling {
            factor_ppm: 8_000_000,
            low_frequency_ppm: 1_000_000,
            high_frequency_ppm: 4_000_000,
            original_context: 8192,
        };
        // Waves of 8192 tokens and longer are slow, of 2048 and shorter fast; half way between is (1/8 + 1) / 2.
        assert_eq!(stretch(&scaling, TAU / 10_000.0), 8.0);
        assert_eq!(stretch(&scaling, TAU / 2_000.0), 1.0);
        assert!((stretch(&scaling, TAU * 2.5 / 8192.0) - 16.0 / 9.0).abs() < 1e-12);
    }
}
