//! The quantiser: a sign for each kept value, and one scale per chunk.
//!
//! The values that top-k keeps have nearly equal magnitudes, so the sign carries almost all of the
//! information (signSGD, arXiv 1802.04434): of real pseudo-gradients it loses 0.3 % of the squared
//! norm. For given signs, the mean magnitude is the scale that loses least:
//! `argmin_s sum (|v_i| - s)^2 = mean |v_i|`.
//!
//! Scales are evenly spaced in their logarithm, eight per octave, which loses less than 0.1 % on
//! average. They are multiples of 2^-33 from 2^-24 to 215.25, numbered by one byte. What rounding
//! and saturation lose stays in the error feedback.

/// One kept value in 16 bits: its index in the chunk (15 bits) and its sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept(u16);

const NEGATIVE: u16 = 1 << 15;
/// [`NEGATIVE`] in every 16-bit lane.
const SIGNS: u64 = 0x8000_8000_8000_8000;

impl Kept {
    /// The value at `index`, which is below 2^15.
    pub(crate) fn new(index: u16, negative: bool) -> Self {
        debug_assert!(index < NEGATIVE);
        Self(index | if negative { NEGATIVE } else { 0 })
    }

    /// Its index in the chunk.
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        usize::from(self.0 & !NEGATIVE)
    }

    /// Whether it is below zero.
    pub(crate) fn is_negative(self) -> bool {
        self.0 & NEGATIVE != 0
    }

    /// Four values from 16-bit lanes: indices from one word, signs from the highest bits of the
    /// other's lanes.
    #[inline(always)]
    pub(crate) fn from_lanes(indices: u64, signs: u64) -> [Self; 4] {
        let lanes = indices & !SIGNS | signs;
        [lanes, lanes >> 16, lanes >> 32, lanes >> 48].map(|lane| Self(lane as u16))
    }

    /// The value it decodes to with this scale.
    #[inline(always)]
    pub(crate) fn value(self, scale: f32) -> f32 {
        // Flip the sign bit instead of branching, which the processor could mispredict.
        f32::from_bits(scale.to_bits() ^ u32::from(self.0 & NEGATIVE) << 16)
    }
}

/// A chunk's scale, by its number: 0 is the scale zero, the others ascend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scale(u8);

/// One octave of scales, in units of 2^-33: 512 times the powers of the eighth root of 2, rounded.
pub(crate) const OCTAVE: [u32; 8] = [512, 558, 609, 664, 724, 790, 861, 939];

/// The midpoints between neighbouring scales of an octave, as 24-bit mantissas. The last is between
/// the octave's last scale and the next octave's first.
pub(crate) const MIDDLES: [u32; 8] = {
    let mut middles = [0; 8];
    let mut place = 0;
    while place < 8 {
        let next = if place < 7 {
            OCTAVE[place + 1]
        } else {
            2 * OCTAVE[0]
        };
        middles[place] = (OCTAVE[place] + next) << 13;
        place += 1;
    }
    middles
};

/// All scales are multiples of 2^-33.
const UNIT_EXPONENT: u32 = 33;

/// The biased exponent of a float whose mantissa, as a whole number, counts units of 2^-33.
pub(crate) const UNIT_OF_BITS: i32 = 127 + 23 - UNIT_EXPONENT as i32;

/// The value of every scale, exact: 10 bits times a power of two.
const VALUES: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut number = 1;
    while number < 256 {
        values[number] = Scale(number as u8).units() as f32 / (1u64 << UNIT_EXPONENT) as f32;
        number += 1;
    }
    values
};

impl Scale {
    /// The scale of a chunk that keeps nothing.
    pub(crate) const ZERO: Self = Self(0);

    /// The scale nearest to the mean of the magnitudes, of which there are at most
    /// [`MAX_CHUNK`](crate::MAX_CHUNK). Of two equally near, the lower.
    ///
    /// The mean is computed in whole numbers, so the order of summation does not matter, and 32
    /// bits suffice: all mantissas are aligned to the largest exponent and truncated until their
    /// sum fits.
    pub(crate) fn of(magnitudes: impl ExactSizeIterator<Item = f32> + Clone) -> Self {
        let count = magnitudes.len() as u32;
        let drop = dropped_bits(count);
        let parts = magnitudes.map(|magnitude| exponent_and_mantissa(magnitude.to_bits()));
        let largest = parts
            .clone()
            .map(|(exponent, _)| exponent)
            .max()
            .unwrap_or(1);
        let cut =
            |(exponent, mantissa): (u32, u32)| mantissa >> (drop + largest - exponent).min(31);
        let mean = parts.map(cut).sum::<u32>() / count.max(1);
        Self::nearest(mean, largest as i32 + drop as i32 - UNIT_OF_BITS)
    }

    /// The scale nearest to `mean * 2^exponent`, in units of 2^-33. Of two equally near, the lower.
    /// `mean` has at most 24 bits.
    fn nearest(mean: u32, exponent: i32) -> Self {
        let Some(top) = mean.checked_ilog2() else {
            return Self::ZERO;
        };
        let fraction = mean << (23 - top);
        match top as i32 + exponent - OCTAVE[0].ilog2() as i32 {
            // Half of the smallest scale, an octave's first, is a power of two.
            ..-1 => Self::ZERO,
            -1 => Self((fraction > 1 << 23).into()),
            octave => {
                let above = MIDDLES.iter().filter(|&&middle| fraction > middle).count();
                Self((8 * octave + 1 + above as i32).min(u8::MAX.into()) as u8)
            }
        }
    }

    /// The scale with this number.
    pub(crate) const fn from_number(number: u8) -> Self {
        Self(number)
    }

    /// Its number, as sent.
    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    /// Its value, exactly.
    pub(crate) fn to_f32(self) -> f32 {
        VALUES[usize::from(self.0)]
    }

    /// Its value in units of 2^-33, at most 41 bits.
    const fn units(self) -> u64 {
        match self.0 {
            0 => 0,
            number => (OCTAVE[(number - 1) as usize % 8] as u64) << ((number - 1) / 8),
        }
    }

    /// Its square, exactly, in units of 2^-66.
    ///
    /// It has at most 82 bits, so a `u128` holds the sum over 2^46 values. Sums of squares are
    /// therefore exact, and their order does not matter.
    pub(crate) fn square(self) -> u128 {
        let units = u128::from(self.units());
        units * units
    }
}

/// The number of bits to drop from 24-bit mantissas so that the sum of `count` (1 to 2^24) of them
/// fits 31 bits.
fn dropped_bits(count: u32) -> u32 {
    count.next_power_of_two().ilog2().saturating_sub(7)
}

/// A float's biased exponent (1 for denormals), and its mantissa with the implicit bit.
fn exponent_and_mantissa(bits: u32) -> (u32, u32) {
    let (exponent, stored) = (bits >> 23 & 0xff, bits & 0x7f_ffff);
    (exponent.max(1), stored | u32::from(exponent != 0) << 23)
}

/// The square root of a sum of [`Scale::square`]s. Rounded twice: to f32, and by the root.
pub(crate) fn root(squares: u128) -> f32 {
    const UNIT: f32 = 1.0 / (1u64 << UNIT_EXPONENT) as f32;
    (squares as f32).sqrt() * UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale_of(magnitudes: &[f32]) -> f32 {
        Scale::of(magnitudes.iter().copied()).to_f32()
    }

    fn scales() -> impl Iterator<Item = Scale> {
        (0..=u8::MAX).map(Scale::from_number)
    }

    #[test]
    fn the_scale_is_the_mean_magnitude() {
        assert_eq!(scale_of(&[1.0, 2.0, 3.0]), 2.0);
        assert_eq!(scale_of(&[0.0, 0.0]), 0.0);
    }

    #[test]
    fn every_scale_is_its_own_nearest_and_they_ascend_evenly() {
        for scale in scales() {
            assert_eq!(Scale::of([scale.to_f32()].into_iter()), scale);
        }
        for (lower, upper) in scales().zip(scales().skip(1)).skip(1) {
            let ratio = upper.to_f32() / lower.to_f32();
            assert!((ratio / 2f32.powf(0.125) - 1.0).abs() < 1e-3, "{ratio}");
        }
        assert_eq!((VALUES[1], VALUES[255]), (1.0 / (1 << 24) as f32, 215.25));
    }

    #[test]
    fn the_nearest_scale_is_taken_and_of_two_equally_near_the_lower() {
        for (lower, upper) in scales().zip(scales().skip(1)) {
            let middle = (lower.to_f32() + upper.to_f32()) / 2.0;
            assert_eq!(scale_of(&[middle]), lower.to_f32());
            assert_eq!(scale_of(&[middle.next_up()]), upper.to_f32());
        }
    }

    #[test]
    fn a_scale_saturates_and_underflows() {
        assert_eq!(scale_of(&[f32::MAX, f32::MAX]), 215.25);
        assert_eq!(scale_of(&[f32::from_bits(1)]), 0.0);
    }

    #[test]
    fn squares_are_exact_for_every_scale() {
        for scale in scales() {
            let exact = f64::from(scale.to_f32()) * f64::from(scale.to_f32());
            assert_eq!(scale.square() as f64 / 2f64.powi(66), exact);
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
