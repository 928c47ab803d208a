//! The kernel: a cube of units for each chunk, from pseudo-gradient to record in one launch.
//!
//! A unit looks after every `units`-th value of its chunk, so that neighbours read neighbouring
//! memory. Which values are kept is told by sets, one bit a value: unlike lists, they are in the
//! values' order by themselves. From there on a unit looks after some words of the sets.

use cubecl::prelude::*;

use super::code;
use super::scale;
use super::search;
use super::shape::{HEAD, HISTOGRAM, HISTOGRAMS, Shape, WORD};

/// The first word of a record that tells, in the second, of a value that is not finite: twice its
/// index, and one more where the error feedback is finite there.
pub(super) const NOT_FINITE: u32 = 256;
/// All bits but the sign: as whole numbers they are in the order of the magnitudes.
const MAGNITUDE: u32 = 0x7fff_ffff;
const INFINITY: u32 = 0x7f80_0000;
const MINUS_ZERO: u32 = 0x8000_0000;

/// The chunk that a cube works on.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Chunk {
    /// Its first value's place in the tensor.
    pub start: u32,
    /// How many values it has.
    pub length: u32,
    /// How many of them it keeps.
    pub keep: u32,
}

/// Memory that the units of a cube share.
#[derive(CubeType)]
pub(super) struct Memory {
    /// Histograms of the selection, and then what units leave for those after them.
    pub histograms: Shared<[Atomic<u32>]>,
    /// The set of values above the least one that is kept; in the end that of all that are kept.
    pub kept: Shared<[Atomic<u32>]>,
    /// The set of values as large as the least one that is kept.
    pub equal: Shared<[Atomic<u32>]>,
    /// The set of values in those two that are below zero.
    pub negative: Shared<[Atomic<u32>]>,
    /// The record's bit strings.
    pub strings: Shared<[Atomic<u32>]>,
    /// What [`NOT_FINITE`] tells of the first such value.
    pub not_finite: Shared<Atomic<u32>>,
    /// What the cut mantissas above the least one that is kept add up to.
    pub sum: Shared<Atomic<u32>>,
}

/// Compresses one tensor, a chunk a cube.
///
/// `values` holds the bits of the pseudo-gradient and then those of what is left of it. They are no
/// floats, so that compilers which believe that there are no NaNs leave them alone. `zero` is zero,
/// though no compiler knows.
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
    let number = CUBE_POS as u32;
    // Where there are more than fit one axis, the last row of cubes may be longer than what is
    // left.
    if number > (length - 1u32) / comptime!(shape.chunk) {
        terminate!();
    }
    let start = number * comptime!(shape.chunk);
    let length = min(length - start, comptime!(shape.chunk));
    let keep =
        (length * comptime!(shape.keep) + comptime!(shape.chunk - 1)) / comptime!(shape.chunk);
    let chunk = Chunk {
        start,
        length,
        keep,
    };

    let memory = empty_memory(shape);
    sync_cube();
    let mut held = Array::<u32>::new(comptime!(if shape.held() {
        shape.rows() as usize
    } else {
        1
    }));
    let largest = accumulate(
        error, values, &mut held, &memory, &chunk, decay, zero, shape,
    );
    let floor = search::floor(&memory, &chunk, largest, shape);
    let least = search::least(&*values, &held, &memory, &chunk, floor, shape);
    mark(&*values, &held, &memory, &chunk, &least, shape);
    sync_cube();
    let sum = memory.sum.load()
        + least.equals * scale::cut(least.magnitude, least.largest_exponent, chunk.keep);
    let scale = scale::number(sum, least.largest_exponent, chunk.keep);
    code::write_strings(&memory, least.equals, shape);
    sync_cube();
    write_record(records, &memory, number, scale, shape);
    take_out(values, &held, &memory, &chunk, scale, shape);
}

/// The shared memory, empty.
#[cube]
fn empty_memory(#[comptime] shape: Shape) -> Memory {
    let memory = Memory {
        histograms: zeros(comptime!(HISTOGRAMS * HISTOGRAM), comptime!(shape.units)),
        kept: zeros(comptime!(shape.set_words()), comptime!(shape.units)),
        equal: zeros(comptime!(shape.set_words()), comptime!(shape.units)),
        negative: zeros(comptime!(shape.set_words()), comptime!(shape.units)),
        strings: zeros(comptime!(shape.string_words()), comptime!(shape.units)),
        not_finite: Shared::<Atomic<u32>>::new(),
        sum: Shared::<Atomic<u32>>::new(),
    };
    if UNIT_POS == 0u32 {
        memory.not_finite.store(u32::MAX.runtime());
        memory.sum.store(0u32);
    }
    memory
}

/// So many words of shared memory, zero once the units have met.
#[cube]
fn zeros(#[comptime] words: u32, #[comptime] units: u32) -> Shared<[Atomic<u32>]> {
    let memory = Shared::<[Atomic<u32>]>::new_slice(comptime!(words as usize));
    for part in 0..comptime!(words.div_ceil(units)) {
        let place = part * units + UNIT_POS;
        if place < words {
            memory[place as usize].store(0u32);
        }
    }
    memory
}

/// Finds what there is to send, `decay * error + values`; returns the largest magnitude of this
/// unit's.
#[cube]
fn accumulate(
    error: &[u32],
    values: &mut [u32],
    held: &mut Array<u32>,
    memory: &Memory,
    chunk: &Chunk,
    decay: f32,
    zero: u32,
    #[comptime] shape: Shape,
) -> u32 {
    let mut largest = 0u32;
    #[unroll(shape.held())]
    for row in 0..comptime!(shape.rows()) {
        let index = row * comptime!(shape.units) + UNIT_POS;
        if index < chunk.length {
            let place = (chunk.start + index) as usize;
            let (waiting, new) = (error[place], values[place]);
            // The product goes through the integers, or a compiler might fuse it with the sum and
            // round only once.
            let product = u32::reinterpret(decay * f32::reinterpret(waiting)) ^ zero;
            let bits = u32::reinterpret(f32::reinterpret(product) + f32::reinterpret(new));
            if !is_finite(bits) || !is_finite(waiting) || !is_finite(new) {
                memory
                    .not_finite
                    .fetch_min(2u32 * index + select(is_finite(waiting), 1u32, 0u32));
            }
            largest = max(largest, bits & MAGNITUDE);
            if comptime!(shape.held()) {
                held[row as usize] = bits;
            } else {
                values[place] = bits;
            }
        }
    }
    largest
}

/// The bits of a value that was found before, wherever it is held.
#[cube]
fn value(
    values: &[u32],
    held: &Array<u32>,
    chunk: &Chunk,
    row: u32,
    #[comptime] shape: Shape,
) -> u32 {
    if comptime!(shape.held()) {
        held[row as usize]
    } else {
        values[(chunk.start + row * comptime!(shape.units) + UNIT_POS) as usize]
    }
}

/// The magnitude of such a value.
#[cube]
pub(super) fn magnitude(
    values: &[u32],
    held: &Array<u32>,
    chunk: &Chunk,
    row: u32,
    #[comptime] shape: Shape,
) -> u32 {
    value(values, held, chunk, row, shape) & MAGNITUDE
}

/// Sorts the values that reach the least one that is kept into the sets, and adds up those that are
/// above it.
#[cube]
fn mark(
    values: &[u32],
    held: &Array<u32>,
    memory: &Memory,
    chunk: &Chunk,
    least: &search::Least,
    #[comptime] shape: Shape,
) {
    let mut sum = 0u32;
    #[unroll(shape.held())]
    for row in 0..comptime!(shape.rows()) {
        let index = row * comptime!(shape.units) + UNIT_POS;
        if index < chunk.length {
            let bits = value(values, held, chunk, row, shape);
            let magnitude = bits & MAGNITUDE;
            if magnitude >= least.magnitude {
                let (word, bit) = ((index / WORD) as usize, 1u32 << (index % WORD));
                if magnitude > least.magnitude {
                    memory.kept[word].fetch_or(bit);
                    sum += scale::cut(magnitude, least.largest_exponent, chunk.keep);
                } else {
                    memory.equal[word].fetch_or(bit);
                }
                if is_negative(bits) {
                    memory.negative[word].fetch_or(bit);
                }
            }
        }
    }
    if sum != 0u32 {
        memory.sum.fetch_add(sum);
    }
}

/// Writes what leaves the device.
#[cube]
fn write_record(
    records: &mut [u32],
    memory: &Memory,
    number: u32,
    scale: u32,
    #[comptime] shape: Shape,
) {
    let start = number * comptime!(shape.record_words());
    if UNIT_POS == 0u32 {
        let wrong = memory.not_finite.load();
        let finite = wrong == u32::MAX;
        records[start as usize] = select(finite, scale, NOT_FINITE);
        records[(start + 1u32) as usize] = select(finite, code::high_bits(memory, shape), wrong);
    }
    for part in 0..comptime!(shape.string_words().div_ceil(shape.units)) {
        let word = part * comptime!(shape.units) + UNIT_POS;
        if word < comptime!(shape.string_words()) {
            records[(start + HEAD + word) as usize] = memory.strings[word as usize].load();
        }
    }
}

/// Takes what is sent out of the values.
#[cube]
fn take_out(
    values: &mut [u32],
    held: &Array<u32>,
    memory: &Memory,
    chunk: &Chunk,
    scale: u32,
    #[comptime] shape: Shape,
) {
    let sent = scale::bits(max(scale, 1u32));
    #[unroll(shape.held())]
    for row in 0..comptime!(shape.rows()) {
        let index = row * comptime!(shape.units) + UNIT_POS;
        if index < chunk.length {
            let mut bits = value(&*values, held, chunk, row, shape);
            let kept = (memory.kept[(index / WORD) as usize].load() >> (index % WORD)) & 1u32;
            if kept == 1u32 && scale != 0u32 {
                let sign = select(is_negative(bits), MINUS_ZERO, 0u32);
                bits = u32::reinterpret(f32::reinterpret(bits) - f32::reinterpret(sent | sign));
            }
            values[(chunk.start + index) as usize] = bits;
        }
    }
}

#[cube]
fn is_finite(bits: u32) -> bool {
    bits & INFINITY != INFINITY
}

/// Not the sign bit: minus zero is no negative value.
#[cube]
fn is_negative(bits: u32) -> bool {
    bits > MINUS_ZERO
}
