//! The factor by which a loss is multiplied before it is differentiated in f16.
//!
//! The smallest f16 is 6e-8, and the largest 65,504. A loss that is multiplied by a power of two
//! keeps small gradients above the one; a power that lifts large ones beyond the other is halved,
//! and the step repeated (Micikevicius et al., 2018, section 3.2,
//! <https://arxiv.org/abs/1710.03740>).

use crate::compute_plan::Precision;

/// Powers of two: the one to begin with, and the largest.
const FIRST: u32 = 16;
const LARGEST: u32 = 24;
/// Steps in a row after which the factor is doubled.
const STEPS_TO_DOUBLE: u32 = 1000;

/// A power of two that follows the sizes of gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LossScale {
    exponent: u32,
    /// Steps since the exponent changed.
    steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            exponent: FIRST,
            steps: 0,
        }
    }
}

impl LossScale {
    /// The factor. Only f16 needs one.
    pub(super) fn factor(&self, precision: Precision) -> f32 {
        match precision {
            Precision::F16 => 2f32.powi(self.exponent.min(LARGEST) as i32),
            Precision::F32 | Precision::Bf16 => 1.0,
        }
    }

    /// Counts a step whose gradients were finite.
    pub(super) fn was_finite(&mut self) {
        self.steps += 1;
        if self.steps >= STEPS_TO_DOUBLE {
            self.double();
        }
    }

    /// Doubles the factor. Returns whether that is possible.
    pub(super) fn double(&mut self) -> bool {
        let can_double = self.exponent < LARGEST;
        *self = Self {
            exponent: (self.exponent + 1).min(LARGEST),
            steps: 0,
        };
        can_double
    }

    /// Halves the factor after gradients that were not finite. If it is 1 already, the gradients
    /// are not to blame on it: the next step begins with the first factor, and this returns false.
    pub(super) fn halve(&mut self) -> bool {
        let can_halve = self.exponent > 0;
        *self = Self {
            exponent: self.exponent.checked_sub(1).unwrap_or(FIRST),
            steps: 0,
        };
        can_halve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(scale: &LossScale) -> f32 {
        scale.factor(Precision::F16)
    }

    #[test]
    fn only_f16_scales_its_loss() {
        let scale = LossScale::default();
        assert_eq!(factor(&scale), 65_536.0);
        assert_eq!(scale.factor(Precision::F32), 1.0);
        assert_eq!(scale.factor(Precision::Bf16), 1.0);
    }

    #[test]
    fn the_factor_doubles_after_many_steps_and_no_further_than_its_limit() {
        let mut scale = LossScale::default();
        for _ in 1..STEPS_TO_DOUBLE {
            scale.was_finite();
        }
        assert_eq!(factor(&scale), 65_536.0);
        scale.was_finite();
        assert_eq!(factor(&scale), 131_072.0);
        for _ in 0..20 * STEPS_TO_DOUBLE {
            scale.was_finite();
        }
        assert_eq!(factor(&scale), 2f32.powi(24));
    }

    #[test]
    fn the_factor_is_halved_down_to_one_and_then_begins_anew() {
        let mut scale = LossScale::default();
        let halved = std::iter::from_fn(|| scale.halve().then(|| factor(&scale)));
        assert_eq!(halved.last(), Some(1.0));
        assert_eq!(factor(&scale), 65_536.0);
    }
}
