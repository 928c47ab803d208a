//! Rice codes of gaps (Golomb 1966; Rice and Plaunt 1971), in two planes.
//!
//! A chunk's kept indices, in ascending order, are told by the number of values passed over before
//! each. When any k of n values are equally likely, those gaps are nearly geometric, with the mean
//! `m = (n - k) / (k + 1)`, and the Rice code with `2^r` next below `m ln 2` is within a few
//! hundredths of a bit of the best prefix code: 7.50 bits an index for 64 of 4096, against a bound
//! of 7.36. The places of real pseudo-gradients are as good as random: neither their rows and columns, nor the weights,
//! nor what was sent the round before tells more than a twentieth of a bit about them.
//!
//! A gap g is sent as the r low bits of g in one plane and, in another, as `g >> r` zeros and a one. Apart, the low bits
//! are found without reading what comes before them, and the ones a word at a time. Gaps can't be negative, so that
//! indices from this code are strictly increasing whatever the bytes say.

use super::bits::BitWriter;
use crate::Compression;

/// A Rice code: its parameter is the number of bits of a gap that travel as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rice {
    low_bits: u32,
}

impl Rice {
    /// The code for those settings. Shorter chunks keep the same share, so one code serves all.
    pub fn for_settings(compression: &Compression) -> Self {
        const LN_2_PPM: u64 = 693_147;
        let passed_over = (compression.chunk - compression.keep) as u64;
        let modulus = passed_over * LN_2_PPM / ((compression.keep as u64 + 1) * 1_000_000);
        Self { low_bits: modulus.max(1).ilog2() }
    }

    /// The bits of a gap in the low plane.
    pub fn low_bits(self) -> u32 {
        self.low_bits
    }

    /// The most bits in the high plane that `count` gaps with the sum `total` take.
    pub fn most_high_bits(self, count: usize, total: usize) -> usize {
        count + (total >> self.low_bits)
    }

    /// Appends a gap's low bits.
    pub fn put_low(self, writer: &mut BitWriter<'_>, gap: u32) {
        writer.put(gap & ((1 << self.low_bits) - 1), self.low_bits);
    }

    /// Appends the rest of a gap.
    pub fn put_high(self, writer: &mut BitWriter<'_>, gap: u32) {
        let mut zeros = gap >> self.low_bits;
        while zeros >= 32 {
            writer.put(0, 32);
            zeros -= 32;
        }
        // In two steps, as 32 bits at a time are the most.
        writer.put(0, zeros);
        writer.put(1, 1);
    }

    /// The gap of those two parts.
    #[inline(always)]
    pub fn gap(self, high: u64, low: u32) -> u64 {
        high << self.low_bits | u64::from(low)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bits::{BitReader, Ones};
    use super::*;
    use proptest::prelude::*;

    fn rice(chunk: usize, keep: usize) -> Rice {
        Rice::for_settings(&Compression { chunk, keep, decay_ppm: 0 })
    }

    fn encoded(rice: Rice, gaps: &[u32]) -> (Vec<u8>, Vec<u8>) {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        let (mut lows, mut highs) = (BitWriter::new(&mut low), BitWriter::new(&mut high));
        for &gap in gaps {
            rice.put_low(&mut lows, gap);
            rice.put_high(&mut highs, gap);
        }
        lows.finish();
        highs.finish();
        (low, high)
    }

    #[test]
    fn the_parameter_follows_from_the_settings() {
        assert_eq!(rice(4096, 64).low_bits, 5);
        assert_eq!(rice(4096, 32).low_bits, 6);
        assert_eq!(rice(4096, 128).low_bits, 4);
        assert_eq!(rice(8, 8).low_bits, 0);
        assert_eq!(rice(1, 1).low_bits, 0);
        assert_eq!(rice(32768, 1).low_bits, 13);
    }

    #[test]
    fn a_gap_is_its_low_bits_and_zeros_and_a_one() {
        // 70 = 2 * 32 + 6: 6 in five bits, lowest first; two zeros and a one.
        assert_eq!(encoded(rice(4096, 64), &[70]), (vec![0b00110], vec![0b100]));
    }

    proptest! {
        #[test]
        fn gaps_come_back(
            gaps in prop::collection::vec(0u32..32768, 0..100),
            (chunk, keep) in (1usize..=32768).prop_flat_map(|chunk| (Just(chunk), 1..=chunk)),
        ) {
            let rice = rice(chunk, keep);
            let (low, high) = encoded(rice, &gaps);
            let (mut lows, mut highs) = (BitReader::new(&low), Ones::new(&high));
            for &gap in &gaps {
                let (high, low) = (highs.zeros().unwrap(), lows.take(rice.low_bits()).unwrap());
                prop_assert_eq!(rice.gap(high, low), u64::from(gap));
            }
            prop_assert_eq!(highs.zeros(), None);
            let total: u32 = gaps.iter().sum();
            prop_assert!(high.len() <= rice.most_high_bits(gaps.len(), total as usize).div_ceil(8));
        }
    }
}
