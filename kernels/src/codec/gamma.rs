//! Elias's gamma code (1975): whole numbers of which small ones are the likeliest.
//!
//! A number n from 1, of b bits, is sent as b - 1 zeros and its b bits, the highest (a one) first, the others as they
//! are: 1 takes one bit, 2 and 3 take three, 4 to 7 five. There is one encoding of each number.

use super::bits::{BitReader, BitWriter};

/// The most bits of a number.
const MOST_BITS: u32 = 16;

/// Appends a number from 1 to 65,535.
pub(crate) fn put(writer: &mut BitWriter<'_>, number: u32) {
    debug_assert!((1..1 << MOST_BITS).contains(&number));
    let low_bits = number.ilog2();
    writer.put(1 << low_bits, low_bits + 1);
    writer.put(number - (1 << low_bits), low_bits);
}

/// Takes a number, or returns `None` where the string ends before, or the number has more bits.
pub(crate) fn take(reader: &mut BitReader<'_>) -> Option<u32> {
    let low_bits = reader.window().trailing_zeros();
    if low_bits >= MOST_BITS {
        return None;
    }
    reader.skip(low_bits + 1)?;
    Some(1 << low_bits | reader.take(low_bits)?)
}

/// The bits that a number takes.
#[cfg(test)]
pub(crate) fn bits(number: u32) -> u32 {
    2 * number.ilog2() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_in_as_many_bits_as_promised() {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        (1..1 << MOST_BITS).for_each(|number| put(&mut writer, number));
        writer.finish();
        let total: u64 = (1..1 << MOST_BITS).map(|number| u64::from(bits(number))).sum();
        assert_eq!(bytes.len() as u64, total.div_ceil(8));
        let mut reader = BitReader::new(&bytes);
        for number in 1..1 << MOST_BITS {
            assert_eq!(take(&mut reader), Some(number));
        }
        assert_eq!(reader.finish(), (&[][..], true));
    }

    #[test]
    fn a_number_too_long_and_one_cut_short_are_refused() {
        assert_eq!(take(&mut BitReader::new(&[0, 0, 1, 0, 0, 0])), None);
        assert_eq!(take(&mut BitReader::new(&[0b1000])), Some(8));
        assert_eq!(take(&mut BitReader::new(&[0b1000_0000])), None);
        assert_eq!(take(&mut BitReader::new(&[])), None);
    }
}
