//! The `keep`-th largest magnitude of a chunk, found by radix selection.
//!
//! A histogram of the highest eight bits shows which bin the magnitude lies in. A histogram of the
//! next eight bits of that bin's values narrows it down, and so on: four levels for 31 bits, and
//! nothing is sorted.
//!
//! Real gradients' exponents fall into few bins, so counting all 4096 values would be slow: each
//! increment of a bin waits for the one before. The first two levels are therefore run on the
//! largest value of each unit alone. At least `keep` values reach the result, the *floor*, and
//! hardly one in a hundred of the others does; only these are counted.

use cubecl::prelude::*;

use super::memory::{Chunk, Memory, clear, magnitude};
use super::shape::{BINS, FLOOR_LEVELS, GROUP, HISTOGRAM, HISTOGRAMS, Shape};

/// The lowest bit of each level, highest level first. Bit 31 is the sign.
const LEVELS: [u32; 4] = [23, 15, 7, 0];

/// The lowest bit known before a level.
fn known(level: u32) -> u32 {
    if level == 0 {
        31
    } else {
        LEVELS[level as usize - 1]
    }
}

/// The number of bits a level looks at.
fn digit(level: u32) -> u32 {
    known(level) - LEVELS[level as usize]
}

/// The smallest kept magnitude.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Least {
    /// Its bits.
    pub magnitude: u32,
    /// How many values of exactly this magnitude are kept.
    pub equals: u32,
    /// The biased exponent of the chunk's largest magnitude; 1 for denormals.
    pub largest_exponent: u32,
}

/// A lower bound of the `keep`-th largest magnitude, from the largest magnitude of each unit.
#[cube]
pub(super) fn floor(memory: &Memory, chunk: &Chunk, largest: u32, #[comptime] shape: Shape) -> u32 {
    let mut floor = 0u32;
    if comptime!(shape.floored()) {
        let mut wanted = chunk.keep;
        #[unroll]
        for level in 0..FLOOR_LEVELS {
            if largest >> comptime!(known(level)) == floor {
                count(&memory.histograms, bin(largest, level), level);
            }
            sync_cube();
            let found = find(&memory.histograms, wanted, level);
            wanted -= found.above;
            floor = (floor << comptime!(digit(level))) | found.bin;
        }
        floor <<= comptime!(known(FLOOR_LEVELS));
    }
    floor
}

/// The `keep`-th largest magnitude, which is at least `floor`.
#[cube]
pub(super) fn least(
    values: &[u32],
    held: &Array<u32>,
    memory: &Memory,
    chunk: &Chunk,
    floor: u32,
    #[comptime] shape: Shape,
) -> Least {
    let mut least = 0u32;
    let mut wanted = chunk.keep;
    let mut largest_exponent = 1u32;
    #[unroll]
    for level in 0..LEVELS.len() as u32 {
        let turn = comptime!(shape.turn(level));
        #[unroll(shape.held())]
        for row in 0..comptime!(shape.rows()) {
            if row * comptime!(shape.units) + UNIT_POS < chunk.length {
                let magnitude = magnitude(values, held, chunk, row, shape);
                if magnitude >= floor && magnitude >> comptime!(known(level)) == least {
                    count(&memory.histograms, bin(magnitude, level), turn);
                }
            }
        }
        // Its last reads came before the previous barrier.
        clear(
            &memory.histograms,
            comptime!((turn + 1) % HISTOGRAMS),
            comptime!(shape.units),
        );
        sync_cube();
        let found = find(&memory.histograms, wanted, turn);
        if comptime!(level == 0) {
            largest_exponent = max(find(&memory.histograms, 1u32, turn).bin, 1u32);
        }
        wanted -= found.above;
        least = (least << comptime!(digit(level))) | found.bin;
    }
    // Likewise. All histograms used from here on are empty then.
    clear(
        &memory.histograms,
        comptime!((shape.turn(3) + 2) % HISTOGRAMS),
        comptime!(shape.units),
    );
    Least {
        magnitude: least,
        equals: wanted,
        largest_exponent,
    }
}

/// The bin of a magnitude at a level.
#[cube]
fn bin(magnitude: u32, #[comptime] level: u32) -> u32 {
    (magnitude >> comptime!(LEVELS[level as usize])) & comptime!((1u32 << digit(level)) - 1)
}

/// Where the wanted value lies.
#[derive(CubeType, Clone, Copy)]
struct Found {
    /// Its bin.
    bin: u32,
    /// Number of values in higher bins.
    above: u32,
}

/// Counts a value in a bin.
#[cube]
fn count(histograms: &Shared<[Atomic<u32>]>, bin: u32, #[comptime] histogram: u32) {
    let start = comptime!(histogram * HISTOGRAM);
    histograms[(start + bin) as usize].fetch_add(1u32);
    histograms[(start + comptime!(BINS) + bin / comptime!(GROUP)) as usize].fetch_add(1u32);
}

/// The bin of the `wanted`-th largest value counted: first its group, then the bin in it.
#[cube]
fn find(histograms: &Shared<[Atomic<u32>]>, wanted: u32, #[comptime] histogram: u32) -> Found {
    let start = comptime!(histogram * HISTOGRAM).runtime();
    let group = highest(histograms, start + comptime!(BINS), wanted);
    let least = group.bin * comptime!(GROUP);
    let found = highest(histograms, start + least, wanted - group.above);
    Found {
        bin: least + found.bin,
        above: group.above + found.above,
    }
}

/// Adds up the counts of a group from the highest down, and returns the bin where the sum reaches
/// `wanted`.
#[cube]
fn highest(histograms: &Shared<[Atomic<u32>]>, start: u32, wanted: u32) -> Found {
    let mut found = Found {
        bin: 0u32.runtime(),
        above: 0u32.runtime(),
    };
    let mut sum = 0u32;
    // No early exit, so that all counts are read at once.
    for step in 0..GROUP {
        let bin = comptime!(GROUP - 1) - step;
        let count = histograms[(start + bin) as usize].load();
        if sum < wanted {
            found.bin = bin;
            found.above = sum;
        }
        sum += count;
    }
    found
}
