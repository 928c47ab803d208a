//! A chunk's signs and gaps, as bit strings in shared memory.
//!
//! Each unit encodes the kept values of its own words. Where its bits go depends on the units
//! before it: how many values they keep, which value they keep last, and how many high bits they
//! write.

use cubecl::prelude::*;

use super::memory::{Memory, clear};
use super::scan::{before, deposit, deposit_most, most_before, total};
use super::shape::{Shape, WORD};

/// Keeps the first `equals` of the values equal to the smallest kept magnitude, and writes the
/// strings.
///
/// Needs a barrier after the sets are written, and another before the strings are read.
#[cube]
pub(super) fn write_strings(memory: &Memory, equals: u32, #[comptime] shape: Shape) {
    let [counts, lasts, lengths] = comptime!(shape.scans());
    let first = UNIT_POS * comptime!(shape.words_of_unit());
    let end = min(
        first + comptime!(shape.words_of_unit()),
        comptime!(shape.set_words()),
    );

    // Count the values above and the values equal in one word: low and high half.
    let mut both = 0u32;
    for word in first..end {
        both += memory.kept[word as usize].load().count_ones();
        both += memory.equal[word as usize].load().count_ones() << 16u32;
    }
    deposit(&memory.histograms, both, counts);
    clear(&memory.histograms, lengths, comptime!(shape.units));
    sync_cube();
    both = before(&memory.histograms, counts);
    let equals_left = equals - min(equals, both >> 16u32);
    let rank = (both & 0xffffu32) + equals - equals_left;

    deposit_most(
        &memory.histograms,
        keep_equals(memory, first, end, equals_left),
        lasts,
    );
    sync_cube();
    let next = most_before(&memory.histograms, lasts);
    deposit(
        &memory.histograms,
        high_bits_of(memory, first, end, next, shape),
        lengths,
    );
    sync_cube();
    put_all(
        memory,
        first,
        end,
        rank,
        next,
        before(&memory.histograms, lengths),
        shape,
    );
}

/// The length of the string of high bits, in bits.
#[cube]
pub(super) fn high_bits(memory: &Memory, #[comptime] shape: Shape) -> u32 {
    let [_, _, lengths] = comptime!(shape.scans());
    total(&memory.histograms, lengths, comptime!(shape.units))
}

/// Keeps the first `most` equal values of the words `first..end`. Returns the last kept index of
/// these words plus one, or 0 if they keep nothing.
#[cube]
fn keep_equals(memory: &Memory, first: u32, end: u32, most: u32) -> u32 {
    let mut left = most;
    let mut next = 0u32;
    for word in first..end {
        let equals = lowest(memory.equal[word as usize].load(), left);
        left -= equals.count_ones();
        let kept = memory.kept[word as usize].load() | equals;
        memory.kept[word as usize].store(kept);
        if kept != 0u32 {
            next = (word + 1u32) * WORD - kept.leading_zeros();
        }
    }
    next
}

/// The number of high bits that the words `first..end` need. `start` is the last index kept before
/// them, plus one.
#[cube]
fn high_bits_of(
    memory: &Memory,
    first: u32,
    end: u32,
    start: u32,
    #[comptime] shape: Shape,
) -> u32 {
    let mut bits = 0u32;
    let mut next = start;
    for word in first..end {
        let mut kept = memory.kept[word as usize].load();
        while kept != 0u32 {
            let index = word * WORD + kept.trailing_zeros();
            bits += ((index - next) >> comptime!(shape.low_bits())) + 1u32;
            next = index + 1u32;
            kept &= kept - 1u32;
        }
    }
    bits
}

/// Writes the kept values of the words `first..end`, after `rank` values and `position` high bits.
#[cube]
fn put_all(
    memory: &Memory,
    first: u32,
    end: u32,
    rank: u32,
    start: u32,
    position: u32,
    #[comptime] shape: Shape,
) {
    let (mut rank, mut next, mut position) = (rank, start, position);
    for word in first..end {
        let mut kept = memory.kept[word as usize].load();
        let negative = memory.negative[word as usize].load();
        while kept != 0u32 {
            let bit = kept.trailing_zeros();
            let gap = word * WORD + bit - next;
            put(
                memory,
                comptime!(0u32),
                rank,
                (negative >> bit) & 1u32,
                1u32,
            );
            if comptime!(shape.low_bits() > 0) {
                let low = gap & comptime!((1u32 << shape.low_bits()) - 1);
                let place = rank * comptime!(shape.low_bits());
                put(
                    memory,
                    comptime!(shape.sign_words()),
                    place,
                    low,
                    comptime!(shape.low_bits()),
                );
            }
            position += gap >> comptime!(shape.low_bits());
            put(
                memory,
                comptime!(shape.sign_words() + shape.low_words()),
                position,
                1u32,
                1u32,
            );
            position += 1u32;
            rank += 1u32;
            next += gap + 1u32;
            kept &= kept - 1u32;
        }
    }
}

/// The `most` lowest ones of `word`.
#[cube]
fn lowest(word: u32, most: u32) -> u32 {
    let mut rest = word;
    let mut taken = 0u32;
    while rest != 0u32 && taken < most {
        rest &= rest - 1u32;
        taken += 1u32;
    }
    word ^ rest
}

/// Writes `count` bits (at most 32) at bit `place` of the string that begins at word `start`. The
/// string is zero there.
#[cube]
fn put(memory: &Memory, #[comptime] start: u32, place: u32, bits: u32, #[comptime] count: u32) {
    let (word, shift) = (start + place / WORD, place % WORD);
    memory.strings[word as usize].fetch_or(bits << shift);
    if shift + count > WORD {
        memory.strings[(word + 1u32) as usize].fetch_or(bits >> (WORD - shift));
    }
}
