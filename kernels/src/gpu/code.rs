//! A chunk's signs and gaps, as bit strings in shared memory.
//!
//! Each unit codes what its words of the sets keep. Where its bits go depends on how many values
//! the units before it keep, which one they kept last, and how many high bits they wrote.

use cubecl::prelude::*;

use super::kernel::Memory;
use super::scan::{before, deposit, deposit_most, most_before, total};
use super::search::clear;
use super::shape::{Shape, WORD};

/// Keeps, of the values as large as the least one, the `equals` first, and writes the strings.
///
/// The units have met since the sets were written, and must meet again before the strings are read.
#[cube]
pub(super) fn write_strings(memory: &Memory, equals: u32, #[comptime] shape: Shape) {
    let [counts, lasts, lengths] = comptime!(shape.scans());
    let first = UNIT_POS * comptime!(shape.words_of_unit());
    let end = min(
        first + comptime!(shape.words_of_unit()),
        comptime!(shape.set_words()),
    );

    // How many come before, of those that are above and of those that are equal: both in one word.
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

/// The bits in the string of high bits.
#[cube]
pub(super) fn high_bits(memory: &Memory, #[comptime] shape: Shape) -> u32 {
    let [_, _, lengths] = comptime!(shape.scans());
    total(&memory.histograms, lengths, comptime!(shape.units))
}

/// Keeps the first `most` of the equal values in some words; returns one more than the last index
/// that these words keep, or 0 where they keep none.
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

/// The high bits that some words take; `start` is one more than the index kept before them.
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

/// Writes what some words keep: `rank` values and `position` high bits come before.
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

/// The `most` lowest ones of a word.
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

/// Puts `count` bits (at most 32) at a place in the bit string that begins at word `start`; there
/// are zeros.
#[cube]
fn put(memory: &Memory, #[comptime] start: u32, place: u32, bits: u32, #[comptime] count: u32) {
    let (word, shift) = (start + place / WORD, place % WORD);
    memory.strings[word as usize].fetch_or(bits << shift);
    if shift + count > WORD {
        memory.strings[(word + 1u32) as usize].fetch_or(bits >> (WORD - shift));
    }
}
