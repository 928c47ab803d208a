//! The kernel: a cube of units for each chunk, from pseudo-gradient to record in one launch.
//!
//! A unit looks after every `units`-th value of its chunk, so that neighbours read neighbouring memory. Which values are
//! kept is told by sets, one bit a value: unlike lists, they are in the values' order by themselves.

use cubecl::prelude::*;

use super::scale;
use super::scan::{before, deposit, deposit_most, most_before, total};
use super::select::{clear, count, find};
use super::shape::{FLOOR_LEVELS, HEAD, HISTOGRAM, HISTOGRAMS, Shape, WORD};

/// The first word of a record that tells, in the second, of a value that is not finite: twice its index, and one more
/// where the error feedback is finite there.
pub(super) const NOT_FINITE: u32 = 256;
const MAGNITUDE: u32 = 0x7fff_ffff;
const INFINITY: u32 = 0x7f80_0000;
const MINUS_ZERO: u32 = 0x8000_0000;

/// The lowest bit that each level of the selection looks at, from the highest level down. The one above the highest is the
/// sign's.
const LEVELS: [u32; 4] = [23, 15, 7, 0];

/// The lowest bit that was looked at before a level.
fn known(level: u32) -> u32 {
    if level == 0 { 31 } else { LEVELS[level as usize - 1] }
}

/// The bits that a level looks at.
fn digit(level: u32) -> u32 {
    known(level) - LEVELS[level as usize]
}

/// Compresses one tensor, a chunk a cube.
///
/// `values` holds the bits of the pseudo-gradient and then those of what is left of it. They are no floats, so that
/// compilers which believe that there are no NaNs leave them alone. `zero` is zero, though no compiler knows.
#[cube(launch_unchecked)]
pub(super) fn compress_chunks(
    error: &[u32],
    values: &mut [u32],
    records: &mut [u32],
    decay: f32,
    length: u32,
    zero: u32,
    #[comptime] shape: Shape,
) {
    let chunk = CUBE_POS as u32;
    // Where there are more than fit one axis, the last row of cubes may be longer than what is left.
    if chunk > (length - 1u32) / comptime!(shape.chunk) {
        terminate!();
    }
    let start = chunk * comptime!(shape.chunk);
    let here = min(length - start, comptime!(shape.chunk));
    let keep = (here * comptime!(shape.keep) + comptime!(shape.chunk - 1)) / comptime!(shape.chunk);

    let histograms = Shared::<[Atomic<u32>]>::new_slice(comptime!((HISTOGRAMS * HISTOGRAM) as usize));
    let above = Shared::<[Atomic<u32>]>::new_slice(comptime!(shape.set_words() as usize));
    let equal = Shared::<[Atomic<u32>]>::new_slice(comptime!(shape.set_words() as usize));
    let negative = Shared::<[Atomic<u32>]>::new_slice(comptime!(shape.set_words() as usize));
    let strings = Shared::<[Atomic<u32>]>::new_slice(comptime!(shape.string_words() as usize));
    let not_finite = Shared::<Atomic<u32>>::new();
    let sum = Shared::<Atomic<u32>>::new();

    zero_all(&histograms, comptime!(HISTOGRAMS * HISTOGRAM), comptime!(shape.units));
    zero_all(&above, comptime!(shape.set_words()), comptime!(shape.units));
    zero_all(&equal, comptime!(shape.set_words()), comptime!(shape.units));
    zero_all(&negative, comptime!(shape.set_words()), comptime!(shape.units));
    zero_all(&strings, comptime!(shape.string_words()), comptime!(shape.units));
    if UNIT_POS == 0u32 {
        not_finite.store(u32::MAX.runtime());
        sum.store(0u32);
    }
    sync_cube();

    // What there is to send.
    let mut held = Array::<u32>::new(comptime!(if shape.held() { shape.rows() as usize } else { 1 }));
    let mut largest = 0u32;
    #[unroll(shape.held())]
    for row in 0..comptime!(shape.rows()) {
        let index = row * comptime!(shape.units) + UNIT_POS;
        if index < here {
            let place = (start + index) as usize;
            let (waiting, new) = (error[place], values[place]);
            // The product goes through the integers, or a compiler might fuse it with the sum and round only once.
            let product = u32::reinterpret(decay * f32::reinterpret(waiting)) ^ zero;
            let bits = u32::reinterpret(f32::reinterpret(product) + f32::reinterpret(new));
            if !is_finite(bits) || !is_finite(waiting) || !is_finite(new) {
                not_finite.fetch_min(2u32 * index + select(is_finite(waiting), 1u32, 0u32));
            }
            largest = max(largest, bits & MAGNITUDE);
            if comptime!(shape.held()) {
                held[row as usize] = bits;
            } else {
                values[place] = bits;
            }
        }
    }

    // The least magnitude that is kept.
    let mut floor = 0u32;
    if comptime!(shape.floored()) {
        let mut wanted = keep;
        #[unroll]
        for level in 0..FLOOR_LEVELS {
            if largest >> comptime!(known(level)) == floor {
                count(&histograms, bin(largest, level), level);
            }
            sync_cube();
            let found = find(&histograms, wanted, level);
            wanted -= found.above;
            floor = (floor << comptime!(digit(level))) | found.bin;
        }
        floor <<= comptime!(known(FLOOR_LEVELS));
    }
    let mut least = 0u32;
    let mut wanted = keep;
    let mut largest_exponent = 1u32;
    #[unroll]
    for level in 0..4u32 {
        let turn = comptime!(shape.turn(level));
        #[unroll(shape.held())]
        for row in 0..comptime!(shape.rows()) {
            let index = row * comptime!(shape.units) + UNIT_POS;
            if index < here {
                let magnitude = value(&held, &*values, row, start + index, shape) & MAGNITUDE;
                if magnitude >= floor && magnitude >> comptime!(known(level)) == least {
                    count(&histograms, bin(magnitude, level), turn);
                }
            }
        }
        // It was read for the last time before the barrier before this one.
        clear(&histograms, comptime!((turn + 1) % HISTOGRAMS), comptime!(shape.units));
        sync_cube();
        let found = find(&histograms, wanted, turn);
        if comptime!(level == 0) {
            largest_exponent = max(find(&histograms, 1u32, turn).bin, 1u32);
        }
        wanted -= found.above;
        least = (least << comptime!(digit(level))) | found.bin;
    }
    let [counts, lasts, lengths] = comptime!([1, 2, 3].map(|after| (shape.turn(3) + after) % HISTOGRAMS));

    // All that are larger, the `wanted` first of those that are as large, and what they add up to.
    let dropped = scale::dropped_bits(keep);
    let mut part = 0u32;
    #[unroll(shape.held())]
    for row in 0..comptime!(shape.rows()) {
        let index = row * comptime!(shape.units) + UNIT_POS;
        if index < here {
            let bits = value(&held, &*values, row, start + index, shape);
            let magnitude = bits & MAGNITUDE;
            if magnitude >= least {
                let (word, bit) = ((index / WORD) as usize, 1u32 << (index % WORD));
                if magnitude > least {
                    above[word].fetch_or(bit);
                    part += scale::cut(magnitude, largest_exponent, dropped);
                } else {
                    equal[word].fetch_or(bit);
                }
                // Not the sign bit: minus zero is no negative value.
                if bits > MINUS_ZERO {
                    negative[word].fetch_or(bit);
                }
            }
        }
    }
    if part != 0u32 {
        sum.fetch_add(part);
    }
    clear(&histograms, lasts, comptime!(shape.units));
    sync_cube();
    let sum = sum.load() + wanted * scale::cut(least, largest_exponent, dropped);
    let number = scale::number(sum, keep, largest_exponent, dropped);

    // How many come before this unit's words.
    let first = UNIT_POS * comptime!(shape.words_of_unit());
    let end = min(first + comptime!(shape.words_of_unit()), comptime!(shape.set_words()));
    let mut here_above = 0u32;
    let mut here_equal = 0u32;
    for word in first..end {
        here_above += above[word as usize].load().count_ones();
        here_equal += equal[word as usize].load().count_ones();
    }
    deposit(&histograms, here_above | (here_equal << 16u32), counts);
    clear(&histograms, lengths, comptime!(shape.units));
    sync_cube();
    let both = before(&histograms, counts);
    let mut equals_left = wanted - min(wanted, both >> 16u32);
    let mut rank = (both & 0xffffu32) + wanted - equals_left;

    // What this unit's words keep, and the gaps before.
    let kept = above;
    let mut next = 0u32;
    for word in first..end {
        let equals = lowest(equal[word as usize].load(), equals_left);
        equals_left -= equals.count_ones();
        let bits = kept[word as usize].load() | equals;
        kept[word as usize].store(bits);
        if bits != 0u32 {
            next = (word + 1u32) * WORD - bits.leading_zeros();
        }
    }
    deposit_most(&histograms, next, lasts);
    sync_cube();
    let next_before = most_before(&histograms, lasts);
    let mut high_bits = 0u32;
    next = next_before;
    for word in first..end {
        let mut bits = kept[word as usize].load();
        while bits != 0u32 {
            let index = word * WORD + bits.trailing_zeros();
            high_bits += ((index - next) >> comptime!(shape.low_bits)) + 1u32;
            next = index + 1u32;
            bits &= bits - 1u32;
        }
    }
    deposit(&histograms, high_bits, lengths);
    sync_cube();
    let mut position = before(&histograms, lengths);
    next = next_before;
    for word in first..end {
        let mut bits = kept[word as usize].load();
        let negatives = negative[word as usize].load();
        while bits != 0u32 {
            let bit = bits.trailing_zeros();
            let index = word * WORD + bit;
            let gap = index - next;
            put(&strings, comptime!(0u32), rank, (negatives >> bit) & 1u32, 1u32);
            if comptime!(shape.low_bits > 0) {
                let low = gap & comptime!((1u32 << shape.low_bits) - 1);
                put(
                    &strings,
                    comptime!(shape.sign_words()),
                    rank * comptime!(shape.low_bits),
                    low,
                    comptime!(shape.low_bits),
                );
            }
            position += gap >> comptime!(shape.low_bits);
            put(&strings, comptime!(shape.sign_words() + shape.low_words()), position, 1u32, 1u32);
            position += 1u32;
            rank += 1u32;
            next = index + 1u32;
            bits &= bits - 1u32;
        }
    }
    sync_cube();

    // The record, and what is left.
    let record = chunk * comptime!(shape.record_words());
    let wrong = not_finite.load();
    if UNIT_POS == 0u32 {
        let sound = wrong == u32::MAX;
        records[record as usize] = select(sound, number, NOT_FINITE);
        records[record as usize + 1usize] = select(sound, total(&histograms, lengths, comptime!(shape.units)), wrong);
    }
    for part in 0..comptime!(shape.string_words().div_ceil(shape.units)) {
        let word = part * comptime!(shape.units) + UNIT_POS;
        if word < comptime!(shape.string_words()) {
            records[(record + HEAD + word) as usize] = strings[word as usize].load();
        }
    }
    let scale = select(number == 0u32, 0u32, scale::bits(max(number, 1u32)));
    #[unroll(shape.held())]
    for row in 0..comptime!(shape.rows()) {
        let index = row * comptime!(shape.units) + UNIT_POS;
        if index < here {
            let mut bits = value(&held, &*values, row, start + index, shape);
            let is_kept = (kept[(index / WORD) as usize].load() >> (index % WORD)) & 1u32;
            if is_kept == 1u32 && number != 0u32 {
                let sign = select(bits > MINUS_ZERO, MINUS_ZERO, 0u32);
                bits = u32::reinterpret(f32::reinterpret(bits) - f32::reinterpret(scale | sign));
            }
            values[(start + index) as usize] = bits;
        }
    }
}

/// The bits of a value that was computed before, wherever it is held.
#[cube]
fn value(held: &Array<u32>, values: &[u32], row: u32, place: u32, #[comptime] shape: Shape) -> u32 {
    if comptime!(shape.held()) { held[row as usize] } else { values[place as usize] }
}

#[cube]
fn is_finite(bits: u32) -> bool {
    bits & INFINITY != INFINITY
}

/// The bin of a magnitude at a level.
#[cube]
fn bin(magnitude: u32, #[comptime] level: u32) -> u32 {
    (magnitude >> comptime!(LEVELS[level as usize])) & comptime!((1u32 << digit(level)) - 1)
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

/// Puts `count` bits (at most 32) at a place in the bit string that begins at word `start`; there are zeros.
#[cube]
fn put(strings: &Shared<[Atomic<u32>]>, #[comptime] start: u32, place: u32, bits: u32, #[comptime] count: u32) {
    let (word, shift) = (start + place / WORD, place % WORD);
    strings[word as usize].fetch_or(bits << shift);
    if comptime!(count > 1) {
        if shift + count > WORD {
            strings[(word + 1u32) as usize].fetch_or(bits >> (WORD - shift));
        }
    }
}

/// Fills memory with zeros, each unit its part.
#[cube]
fn zero_all(words: &Shared<[Atomic<u32>]>, #[comptime] count: u32, #[comptime] units: u32) {
    for part in 0..comptime!(count.div_ceil(units)) {
        let place = part * units + UNIT_POS;
        if place < count {
            words[place as usize].store(0u32);
        }
    }
}
