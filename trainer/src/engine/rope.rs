//! Rotary positions (Su et al., 2021, <https://arxiv.org/abs/2104.09864>) in Hugging Face's half-split convention:
//! component i turns together with component i + head width / 2.

use crate::spec::ModelSpec;

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
        let half = spec.head_width() / 2;
        let base = f64::from(spec.rope_theta);
        let angles = (0..spec.context).flat_map(|position| {
            (0..half).map(move |index| position as f64 * base.powf(-(index as f64) / half as f64))
        });
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Self { cos, sin, half }
    }
}
