//! Rice codes of gaps (Golomb 1966; Rice and Plaunt 1971), in two planes.
//!
//! A chunk's kept indices, in ascending order, are told by the number of values passed over before
//! each. When any k of n values are equally likely, those gaps are nearly geometric, with the mean
//! `m = (n - k) / (k + 1)`, and the Rice code with `2^r` next below `m ln 2` is within a few
//! hundredths of a bit of the best prefix code: 7.50 bits an index for 64 of 4096, against a bound
//! of 7.36. The places of real pseudo-gradients are as good as random: neither their rows and
//! columns, nor the weights, nor what was sent the round before tells more than a twentieth of a
//! bit about them.
//!
//! A gap g is sent as the r low bits of g in one plane and, in another, as `g >> r` zeros and a
//! one. Apart, the low bits are found without reading what comes before them, and the ones a word
//! at a time. Gaps can't be negative, so that indices from this code are strictly increasing
//! whatever the bytes say.

use crate::Compression;

/// A Rice code: its parameter is the number of bits of a gap that travel as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rice {
    low_bits: u32,
}

impl Rice {
    /// No settings have more low bits: 1 of 32768 has them.
    pub const MOST_LOW_BITS: u32 = 13;

    /// The code for those settings. Shorter chunks keep the same share, so one code serves all.
    pub fn for_settings(compression: &Compression) -> Self {
        const LN_2_PPM: u64 = 693_147;
        let passed_over = (compression.chunk - compression.keep) as u64;
        let modulus = passed_over * LN_2_PPM / ((compression.keep as u64 + 1) * 1_000_000);
        Self {
            low_bits: modulus.max(1).ilog2(),
        }
    }

    /// The bits of a gap in the low plane.
    #[inline(always)]
    pub fn low_bits(self) -> u32 {
        self.low_bits
    }

    /// The most bits in the high plane that `count` gaps with the sum `total` take.
    pub fn most_high_bits(self, count: usize, total: usize) -> usize {
        count + (total >> self.low_bits)
    }

    /// What of a gap travels as it is.
    #[inline(always)]
    pub fn low(self, gap: u32) -> u32 {
        gap & ((1 << self.low_bits) - 1)
    }

    /// What of a gap travels as so many zeros and a one.
    #[inline(always)]
    pub fn high(self, gap: u32) -> u32 {
        gap >> self.low_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rice(chunk: usize, keep: usize) -> Rice {
        Rice::for_settings(&Compression {
            chunk,
            keep,
            decay_ppm: 0,
        })
    }

    #[test]
    fn the_parameter_follows_from_the_settings() {
        assert_eq!(rice(4096, 64).low_bits, 5);
        assert_eq!(rice(4096, 32).low_bits, 6);
        assert_eq!(rice(4096, 128).low_bits, 4);
        assert_eq!(rice(8, 8).low_bits, 0);
        assert_eq!(rice(1, 1).low_bits, 0);
        assert_eq!(rice(32768, 1).low_bits, Rice::MOST_LOW_BITS);
    }

    #[test]
    fn a_gap_is_its_low_bits_and_zeros_and_a_one() {
        // 70 = 2 * 32 + 6.
        let rice = rice(4096, 64);
        assert_eq!((rice.low(70), rice.high(70)), (6, 2));
        assert_eq!(rice.most_high_bits(1, 70), 3);
    }
}
