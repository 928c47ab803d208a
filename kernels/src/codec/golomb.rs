//! Golomb–Rice codes of gaps (Golomb 1966; Rice and Plaunt 1971).
//!
//! A chunk's kept indices, in ascending order, are told by the number of values passed over before
//! each. When any k of n values are equally likely, those gaps are nearly geometric, with the mean
//! `m = (n - k) / (k + 1)`, and the Rice code with `2^r` next below `m ln 2` is within a few
//! hundredths of a bit of the best prefix code: 7.50 bits an index for 64 of 4096, against a bound
//! of 7.36.
//!
//! A gap g is sent as `g >> r` zeros, a one, and the r low bits of g. Gaps can't be negative, so that
//! indices from this code are strictly increasing whatever the bytes say.

use super::bits::{BitReader, BitWriter, WINDOW_BITS};
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

    /// The fewest bits that a gap takes.
    pub fn least_bits(self) -> u32 {
        1 + self.low_bits
    }

    /// The most bits that `count` gaps with the sum `total` take.
    pub fn most_bits(self, count: usize, total: usize) -> usize {
        count * self.least_bits() as usize + (total >> self.low_bits)
    }

    /// Appends a gap.
    pub fn put(self, writer: &mut BitWriter<'_>, gap: u32) {
        let mut zeros = gap >> self.low_bits;
        while zeros >= 32 {
            writer.put(0, 32);
            zeros -= 32;
        }
        writer.put(1 << zeros, zeros + 1);
        writer.put(gap & ((1 << self.low_bits) - 1), self.low_bits);
    }

    /// Takes a gap of at most `limit` (below 2^16).
    ///
    /// # Errors
    /// [`GapError`] when the bits end, or the gap is larger.
    pub fn take(self, reader: &mut BitReader<'_>, limit: u32) -> Result<u32, GapError> {
        let window = reader.window();
        let zeros = window.trailing_zeros();
        let (high, low) = if zeros + self.least_bits() <= WINDOW_BITS {
            let low = (window >> (zeros + 1)) as u32 & ((1 << self.low_bits) - 1);
            reader.skip(zeros + self.least_bits()).ok_or(GapError::Ended)?;
            (zeros, low)
        } else {
            let high = self.take_unary(reader, limit)?;
            (high, reader.take(self.low_bits).ok_or(GapError::Ended)?)
        };
        let gap = u64::from(high) << self.low_bits | u64::from(low);
        if gap <= u64::from(limit) { Ok(gap as u32) } else { Err(GapError::TooLarge) }
    }

    /// Counts zeros up to a one, and takes both; gives up where the gap is sure to pass `limit`.
    fn take_unary(self, reader: &mut BitReader<'_>, limit: u32) -> Result<u32, GapError> {
        let mut zeros = 0;
        while zeros <= limit >> self.low_bits {
            let run = reader.window().trailing_zeros().min(32);
            if run < 32 {
                reader.skip(run + 1).ok_or(GapError::Ended)?;
                return Ok(zeros + run);
            }
            reader.skip(run).ok_or(GapError::Ended)?;
            zeros += run;
        }
        Err(GapError::TooLarge)
    }
}

/// Why no gap could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GapError {
    /// The bits ended.
    Ended,
    /// The gap is above the limit.
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rice(chunk: usize, keep: usize) -> Rice {
        Rice::for_settings(&Compression { chunk, keep, decay_ppm: 0 })
    }

    fn encoded(rice: Rice, gaps: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        gaps.iter().for_each(|&gap| rice.put(&mut writer, gap));
        writer.finish();
        bytes
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
    fn a_gap_is_zeros_a_one_and_its_low_bits() {
        // 70 = 2 * 32 + 6: two zeros, a one, then 6 in five bits, lowest first.
        assert_eq!(encoded(rice(4096, 64), &[70]), [0b0011_0100]);
    }

    proptest! {
        #[test]
        fn gaps_come_back(
            gaps in prop::collection::vec(0u32..32768, 0..100),
            (chunk, keep) in (1usize..=32768).prop_flat_map(|chunk| (Just(chunk), 1..=chunk)),
        ) {
            let rice = rice(chunk, keep);
            let bytes = encoded(rice, &gaps);
            let mut reader = BitReader::new(&bytes);
            for &gap in &gaps {
                prop_assert_eq!(rice.take(&mut reader, 32767), Ok(gap));
            }
            prop_assert_eq!(reader.finish(), (&[][..], true));
            let total: u32 = gaps.iter().sum();
            let bits = rice.most_bits(gaps.len(), total as usize);
            prop_assert!(bytes.len() <= bits.div_ceil(8));
        }

        #[test]
        fn a_gap_above_the_limit_is_refused(gap in 1u32..32768, chunk in 1usize..=32768) {
            let rice = rice(chunk, 1);
            let bytes = encoded(rice, &[gap]);
            prop_assert_eq!(rice.take(&mut BitReader::new(&bytes), gap), Ok(gap));
            let refused = rice.take(&mut BitReader::new(&bytes), gap - 1);
            prop_assert_eq!(refused, Err(GapError::TooLarge));
        }
    }

    #[test]
    fn endless_zeros_are_given_up_at_the_limit_or_the_end() {
        let zeros = [0; 4096];
        assert_eq!(rice(64, 64).take(&mut BitReader::new(&zeros), 63), Err(GapError::TooLarge));
        assert_eq!(rice(64, 64).take(&mut BitReader::new(&zeros[..9]), 32767), Err(GapError::Ended));
        assert_eq!(rice(4096, 64).take(&mut BitReader::new(&[]), 9), Err(GapError::Ended));
        assert_eq!(rice(4096, 64).take(&mut BitReader::new(&[1]), 99), Ok(0));
        assert_eq!(rice(4096, 64).take(&mut BitReader::new(&[0x80]), 999), Err(GapError::Ended));
    }
}
