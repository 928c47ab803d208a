//! A chunk's record: its part of the body, before the parts of all chunks are joined.
//!
//! | words of 32 bits | content |
//! |---|---|
//! | 1 | the scale's number; if it is 0, nothing is kept and the rest is ignored |
//! | 1 | the length of the last string, in bits |
//! | ceil(k / 32) | signs |
//! | ceil(k r / 32) | low bits of the gaps |
//! | ceil((k + ((n - k) >> r)) / 32) | high bits of the gaps, in unary |
//!
//! for k kept values of n and a Rice code with r low bits. In every string the first bit is the
//! lowest bit of the first word. Since the lengths follow from the settings, every record has a
//! fixed offset, and threads and GPU cubes write records independently. Only
//! [`super::body::assemble`] reads them in order.

use std::ops::Range;

use super::rice::Rice;
use crate::quantise::{Kept, Scale};

/// Words before the strings.
pub(crate) const HEAD: usize = 2;
const WORD: usize = u32::BITS as usize;

/// The layout of a record: offsets of its strings, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    lows: usize,
    highs: usize,
    end: usize,
}

impl Shape {
    /// The layout for a chunk of `length` values that keeps `keep`.
    pub(crate) fn of(rice: Rice, length: usize, keep: usize) -> Self {
        let lows = HEAD + keep.div_ceil(WORD);
        let highs = lows + (keep * rice.low_bits() as usize).div_ceil(WORD);
        Self {
            lows,
            highs,
            end: highs + rice.most_high_bits(keep, length - keep).div_ceil(WORD),
        }
    }

    /// The number of words in the record.
    pub(crate) fn words(self) -> usize {
        self.end
    }

    /// The words of the signs.
    pub(crate) fn signs(self) -> Range<usize> {
        HEAD..self.lows
    }

    /// The words of the low bits.
    pub(crate) fn lows(self) -> Range<usize> {
        self.lows..self.highs
    }

    /// The words of the high bits.
    pub(crate) fn highs(self) -> Range<usize> {
        self.highs..self.end
    }
}

/// Writes the record of a chunk. `kept` is sorted by index.
pub(crate) fn write(
    record: &mut [u32],
    rice: Rice,
    shape: Shape,
    scale: Scale,
    kept: impl Iterator<Item = Kept>,
) {
    record.fill(0);
    record[0] = scale.number().into();
    let (mut low_bit, mut high_bit, mut next) = (0, 0, 0);
    for (place, value) in kept.enumerate() {
        put(
            &mut record[shape.signs()],
            place,
            value.is_negative().into(),
            1,
        );
        let gap = (value.index() - next) as u32;
        put(
            &mut record[shape.lows()],
            low_bit,
            rice.low(gap),
            rice.low_bits(),
        );
        low_bit += rice.low_bits() as usize;
        high_bit += rice.high(gap) as usize;
        put(&mut record[shape.highs()], high_bit, 1, 1);
        high_bit += 1;
        next = value.index() + 1;
    }
    record[1] = high_bit as u32;
}

/// Writes the low `count` bits of `value` at bit `place`. Its other bits are zero.
#[inline(always)]
fn put(words: &mut [u32], place: usize, value: u32, count: u32) {
    let (word, shift) = (place / WORD, (place % WORD) as u32);
    if count == 0 {
        return;
    }
    words[word] |= value << shift;
    if shift + count > u32::BITS {
        words[word + 1] |= value >> (u32::BITS - shift);
    }
}

/// The scale in a record.
pub(crate) fn scale(record: &[u32]) -> Scale {
    Scale::from_number(record[0] as u8)
}

/// The length of a record's high string, in bits.
pub(crate) fn high_bits(record: &[u32]) -> usize {
    record[1] as usize
}
