//! How values lie in memory that is read and written once a round: in 32 bits, or in 16.

use crate::flush::flush;

/// A number format for values that are computed with in f32.
pub trait Stored: Copy + Default + Send + Sync {
    /// The value.
    fn widen(self) -> f32;

    /// The nearest value of the format.
    fn narrow(value: f32) -> Self;
}

impl Stored for f32 {
    fn widen(self) -> f32 {
        self
    }

    fn narrow(value: f32) -> Self {
        value
    }
}

/// The upper 16 bits of an f32: its range, and eight bits of precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bf16(u16);

/// The largest finite value.
const MOST: f32 = f32::from_bits(0x7f7f_0000);
/// Smaller values become zero, so that none is denormal.
const LEAST: f32 = 1e-30;

impl Bf16 {
    /// The value with these bits.
    pub fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The value's bits.
    pub fn to_bits(self) -> u16 {
        self.0
    }
}

impl Stored for Bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    /// Ties go to even. What is too large becomes the largest finite value, and below 1e-30 is 0.
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = flush(value, LEAST).clamp(-MOST, MOST).to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let quiet_nan = 0x7fc0;
        Self(if value.is_nan() {
            quiet_nan
        } else {
            rounded as u16
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    #[test]
    fn sixteen_bits_keep_eight_bits_of_precision() {
        for value in values(1, 10_000) {
            let kept = Bf16::narrow(value).widen();
            assert!((kept - value).abs() <= value.abs() / 256.0, "{value}");
            assert_eq!(Bf16::narrow(kept).widen(), kept);
            assert_eq!(f32::narrow(value).widen(), value);
        }
    }

    #[test]
    fn ties_go_to_even_and_extremes_stay_finite() {
        let narrow = |bits: u32| Bf16::narrow(f32::from_bits(bits)).to_bits();
        assert_eq!(narrow(0x3f80_8000), 0x3f80);
        assert_eq!(narrow(0x3f81_8000), 0x3f82);
        assert_eq!(narrow(0x3f80_8001), 0x3f81);
        assert_eq!(Bf16::narrow(f32::MAX).widen(), MOST);
        assert_eq!(Bf16::narrow(f32::MIN).widen(), -MOST);
        assert_eq!(Bf16::narrow(1e-31).widen(), 0.0);
        assert!(Bf16::narrow(f32::NAN).widen().is_nan());
        assert_eq!(Bf16::from_bits(0xbf80).widen(), -1.0);
    }
}
