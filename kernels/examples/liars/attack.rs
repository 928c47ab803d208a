//! What dishonest peers send.

use weal_testing::SplitMix64;

use crate::model::unit;

/// A way to lie. Liars know all that honest peers know when they commit: the weights, and the last
/// decided step; not the honest contributions of the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    /// There are liars in number, but they do not come.
    Absent,
    /// They are honest.
    Honest,
    /// Its own work with all signs turned.
    Turned,
    /// The same, a thousand times as large.
    Scaled,
    /// Its own work with a quarter of the values turned.
    Quarter,
    /// Random values.
    Noise,
    /// The last decided step turned, the same by all liars.
    Against,
    /// Training on text that is read backwards.
    Reversed,
    /// Its contribution of an earlier round.
    Stale,
    /// Two of ten steps, blown up to the usual size.
    Lazy,
}

impl Attack {
    pub(crate) const ALL: [(&str, Self); 10] = [
        ("absent", Self::Absent),
        ("honest", Self::Honest),
        ("turned", Self::Turned),
        ("scaled", Self::Scaled),
        ("quarter", Self::Quarter),
        ("noise", Self::Noise),
        ("against", Self::Against),
        ("reversed", Self::Reversed),
        ("stale", Self::Stale),
        ("lazy", Self::Lazy),
    ];

    /// Turns an honest pseudo-gradient, already with the error feedback, into what the liar sends.
    /// `last` is the last decided step.
    pub(crate) fn lie(self, delta: &mut [f32], last: &[f32], random: &mut SplitMix64) {
        match self {
            Self::Turned => delta.iter_mut().for_each(|value| *value = -*value),
            Self::Scaled => delta.iter_mut().for_each(|value| *value *= -1000.0),
            Self::Quarter => delta
                .iter_mut()
                .filter(|_| unit(random) < 0.25)
                .for_each(|value| *value = -*value),
            Self::Noise => {
                let size = norm(delta) / (delta.len() as f32).sqrt();
                delta.fill_with(|| (2.0 * unit(random) - 1.0) * size * 3_f32.sqrt());
            }
            Self::Against => {
                let scale = norm(delta) / norm(last).max(1e-30);
                delta
                    .iter_mut()
                    .zip(last)
                    .for_each(|(value, last)| *value = -scale * last);
            }
            Self::Lazy => delta.iter_mut().for_each(|value| *value *= 5.0),
            Self::Absent | Self::Honest | Self::Reversed | Self::Stale => {}
        }
    }
}

/// The Euclidean norm.
pub(crate) fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}
