//! The quantiser: a sign for each kept value, and one scale for the chunk.
//!
//! What top-k keeps is nearly flat in magnitude, so a sign says almost everything (signSGD, arXiv
//! 1802.04434). For given signs, the scale that loses least in squares is the mean magnitude:
//! `argmin_s sum (|v_i| - s)^2 = mean |v_i|`. It travels as an IEEE half (f16), rounded to nearest,
//! ties to even; a mean beyond the largest finite half, 65504, is sent as that. What rounding and
//! saturation lose stays in the error feedback.

use half::f16;

/// One kept value: its index in the chunk (15 bits) and its sign, in 16 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept(u16);

const NEGATIVE: u16 = 1 << 15;

impl Kept {
    /// The value at `index` (below 2^15), negative or not.
    pub fn new(index: u16, negative: bool) -> Self {
        debug_assert!(index < NEGATIVE);
        Self(index | if negative { NEGATIVE } else { 0 })
    }

    /// The value at the same index, negative or not.
    pub fn with_sign(self, negative: bool) -> Self {
        Self::new(self.0 & !NEGATIVE, negative)
    }

    /// Its place in the chunk.
    pub fn index(self) -> usize {
        usize::from(self.0 & !NEGATIVE)
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.0 & NEGATIVE != 0
    }

    /// What it decodes to under that scale.
    #[inline]
    pub fn value(self, scale: f32) -> f32 {
        if self.is_negative() { -scale } else { scale }
    }
}

/// A chunk's scale: a half, finite and at least +0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scale(u16);

impl Scale {
    /// The scale of a chunk that keeps nothing.
    pub const ZERO: Self = Self(0);

    /// The best scale for kept magnitudes: their mean as a half, saturated.
    ///
    /// The sum is in f64, which can't overflow, in the order given.
    pub fn of(magnitudes: impl ExactSizeIterator<Item = f32>) -> Self {
        let count = magnitudes.len() as f64;
        let sum: f64 = magnitudes.map(f64::from).sum();
        // By way of f32, as some processors convert f64 to f16 so and others don't.
        let mean = (sum / count) as f32;
        Self(f16::from_f32(mean.min(f16::MAX.to_f32())).to_bits())
    }

    /// The scale of those bits, unless it is infinite, NaN, negative or minus zero: nothing may have
    /// two encodings.
    pub fn from_bits(bits: u16) -> Option<Self> {
        (bits <= f16::MAX.to_bits()).then_some(Self(bits))
    }

    /// The half's bits.
    pub fn to_bits(self) -> u16 {
        self.0
    }

    /// Its value, exactly.
    pub fn to_f32(self) -> f32 {
        f16::from_bits(self.0).to_f32()
    }

    /// Its square, exactly, in units of 2^-48.
    ///
    /// A half is a whole number of 2^-24, of at most 40 bits. Sums of such squares over 2^48 values
    /// fit a `u128`, so that norms have no rounding and no order.
    pub fn square(self) -> u128 {
        let (exponent, mantissa) = (u128::from(self.0 >> 10), u128::from(self.0 & 0x3ff));
        let units = if exponent == 0 { mantissa } else { (mantissa | 0x400) << (exponent - 1) };
        units * units
    }
}

/// The root of a sum of [`Scale::square`]s, rounded twice: once to f32, once by the root.
pub(crate) fn root(squares: u128) -> f32 {
    const UNIT: f32 = 1.0 / (1u32 << 24) as f32;
    (squares as f32).sqrt() * UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale_of(magnitudes: &[f32]) -> f32 {
        Scale::of(magnitudes.iter().copied()).to_f32()
    }

    #[test]
    fn the_scale_is_the_mean_magnitude() {
        assert_eq!(scale_of(&[1.0, 2.0, 3.0]), 2.0);
        assert_eq!(scale_of(&[0.0, 0.0]), 0.0);
    }

    #[test]
    fn a_scale_saturates_and_underflows_but_is_always_valid() {
        assert_eq!(scale_of(&[f32::MAX, f32::MAX]), 65504.0);
        assert_eq!(scale_of(&[65519.9]), 65504.0);
        assert_eq!(scale_of(&[f32::from_bits(1)]), 0.0);
        // The smallest half is 2^-24; half of it rounds to even, which is zero.
        assert_eq!(scale_of(&[1.0 / (1 << 24) as f32]), 1.0 / (1 << 24) as f32);
        assert_eq!(scale_of(&[1.0 / (1 << 25) as f32]), 0.0);
    }

    #[test]
    fn only_finite_scales_from_plus_zero_are_valid() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let valid = half.is_finite() && half.is_sign_positive();
            assert_eq!(Scale::from_bits(bits), valid.then_some(Scale(bits)));
        }
    }

    #[test]
    fn squares_are_exact_for_every_half() {
        for scale in (0..=u16::MAX).filter_map(Scale::from_bits) {
            let exact = f64::from(scale.to_f32()) * f64::from(scale.to_f32());
            assert_eq!(scale.square() as f64 / (1u64 << 48) as f64, exact);
            assert_eq!(root(scale.square()), (exact as f32).sqrt());
        }
    }

    #[test]
    fn index_and_sign_share_sixteen_bits() {
        for index in [0, 1, 4095, 32767] {
            for negative in [false, true] {
                let kept = Kept::new(index, negative);
                assert_eq!((kept.index(), kept.is_negative()), (index.into(), negative));
                assert_eq!(kept.value(0.5), if negative { -0.5 } else { 0.5 });
            }
        }
    }
}
