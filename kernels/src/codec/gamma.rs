//! Elias's gamma code (1975), for whole numbers of which small ones are most likely.
//!
//! A number n ≥ 1 of b bits is sent as b - 1 zeros, its highest bit (a one), and its other b - 1
//! bits, lowest first. 1 takes one bit, 2 and 3 take three, 4 to 7 take five. Each number has
//! exactly one encoding.

use super::bits::{BitReader, BitWriter};

/// The most bits a number may have.
const MOST_BITS: u32 = 16;

/// Appends a number from 1 to 65,535.
pub(crate) fn put(writer: &mut BitWriter<'_>, number: u32) {
    debug_assert!((1..1 << MOST_BITS).contains(&number));
    let low_bits = number.ilog2();
    writer.put(1 << low_bits, low_bits + 1);
    writer.put(number - (1 << low_bits), low_bits);
}

/// Why no number could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoNumber {
    /// The bytes end in the middle of the number.
    CutShort,
    /// The number has more than [`MOST_BITS`] bits.
    TooLong,
}

/// Reads a number.
pub(crate) fn take(reader: &mut BitReader<'_>) -> Result<u32, NoNumber> {
    let low_bits = reader.window().trailing_zeros();
    if low_bits >= MOST_BITS {
        // Past the end, strings read as zeros.
        return Err(reader
            .skip(MOST_BITS)
            .map_or(NoNumber::CutShort, |()| NoNumber::TooLong));
    }
    let low = reader
        .skip(low_bits + 1)
        .and_then(|()| reader.take(low_bits))
        .ok_or(NoNumber::CutShort)?;
    Ok(1 << low_bits | low)
}

/// The length of a number's code, in bits.
#[cfg(test)]
pub(crate) fn bits(number: u32) -> u32 {
    2 * number.ilog2() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_round_trips_in_the_promised_number_of_bits() {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        (1..1 << MOST_BITS).for_each(|number| put(&mut writer, number));
        writer.finish();
        let total: u64 = (1..1 << MOST_BITS)
            .map(|number| u64::from(bits(number)))
            .sum();
        assert_eq!(bytes.len() as u64, total.div_ceil(8));
        let mut reader = BitReader::new(&bytes);
        for number in 1..1 << MOST_BITS {
            assert_eq!(take(&mut reader), Ok(number));
        }
        assert_eq!(reader.finish(), (&[][..], true));
    }

    #[test]
    fn a_number_too_long_and_one_cut_short_are_refused() {
        let taken = |bytes: &[u8]| take(&mut BitReader::new(bytes));
        assert_eq!(taken(&[0, 0, 1, 0, 0, 0]), Err(NoNumber::TooLong));
        assert_eq!(taken(&[0, 0]), Err(NoNumber::TooLong));
        assert_eq!(taken(&[0b1000]), Ok(8));
        assert_eq!(taken(&[0b1000_0000]), Err(NoNumber::CutShort));
        assert_eq!(taken(&[0]), Err(NoNumber::CutShort));
        assert_eq!(taken(&[]), Err(NoNumber::CutShort));
    }
}
