//! The kernel: one cube per chunk turns a pseudo-gradient into a record in a single launch.
//!
//! Each unit handles every `units`-th value of its chunk, so that neighbouring units read
//! neighbouring memory. Kept values are marked in sets with one bit per value: unlike a list, a
//! set is always in the values' order. From then on each unit handles some words of the sets.

use cubecl::prelude::*;

use super::code;
use super::memory::{Chunk, MAGNITUDE, Memory, empty_memory, value};
use super::scale;
use super::search;
use super::shape::{HEAD, Shape, WORD};

/// A record with this first word reports a value that is not finite. Its second word is twice the
/// value's index, plus one if the error feedback is finite there.
pub(super) const NOT_FINITE: u32 = 256;
const INFINITY: u32 = 0x7f80_0000;
const MINUS_ZERO: u32 = 0x8000_0000;

/// Compresses one tensor, one chunk per cube.
///
/// `values` holds the bits of the pseudo-gradient, and afterwards those of the next error feedback.
/// They are passed as whole numbers because compilers that assume there are no NaNs would change
/// floats. `zero` is 0, which the compiler must not know.
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
    // With more chunks than fit on one axis, the last row of cubes may extend past the tensor.
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

/// Computes `decay * error + values`, and returns the largest magnitude among this unit's results.
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
            // The product passes through the integers. Otherwise a compiler might fuse it with
            // the sum, and round only once.
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

/// Marks the values that reach the smallest kept magnitude in the sets, and sums those above it.
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

/// Writes the chunk's record, which is all that leaves the device.
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

/// Subtracts what is sent from the values, which leaves the next error feedback.
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

/// Tests the value, not the sign bit: minus zero is not negative.
#[cube]
fn is_negative(bits: u32) -> bool {
    bits > MINUS_ZERO
}
