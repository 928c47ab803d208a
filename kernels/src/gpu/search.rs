//! The `keep`-th largest magnitude of a chunk, by its digits.
//!
//! A histogram of the highest eight bits tells in which bin it lies, one of the next eight bits of
//! the values in that bin tells more, and so on: four levels for 31 bits, without sorting anything
//! (radix selection). To count 4096 values in the few bins that real gradients' exponents fall into
//! would be slow, for every count waits for the one before. So the same is done first with the
//! largest value of each unit, for two levels: at least `keep` values reach what that finds, and of
//! the others hardly one in a hundred does.

use cubecl::prelude::*;

use super::kernel::{Chunk, Memory, magnitude};
use super::shape::{BINS, FLOOR_LEVELS, GROUP, HISTOGRAM, HISTOGRAMS, Shape};

/// The lowest bit that each level looks at, from the highest level down. The one above the highest
/// is the sign's.
const LEVELS: [u32; 4] = [23, 15, 7, 0];

/// The lowest bit that was looked at before a level.
fn known(level: u32) -> u32 {
    if level == 0 {
        31
    } else {
        LEVELS[level as usize - 1]
    }
}

/// The bits that a level looks at.
fn digit(level: u32) -> u32 {
    known(level) - LEVELS[level as usize]
}

/// The least of what is kept.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Least {
    /// Its magnitude.
    pub magnitude: u32,
    /// How many of that magnitude are kept.
    pub equals: u32,
    /// The biased exponent of the largest magnitude, that of denormals being 1.
    pub largest_exponent: u32,
}

/// A magnitude that the `keep`-th largest one reaches, from the largest one of each unit.
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

/// The `keep`-th largest magnitude, which reaches `floor`.
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
        // It was read for the last time before the barrier before this one.
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
    // Likewise; those that take turns from here on are empty then.
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

/// Where the value that is looked for lies.
#[derive(CubeType, Clone, Copy)]
struct Found {
    /// The bin.
    bin: u32,
    /// Values in higher bins.
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

/// Which of the counts from `start` on, from the highest down, is the one that reaches `wanted`.
#[cube]
fn highest(histograms: &Shared<[Atomic<u32>]>, start: u32, wanted: u32) -> Found {
    let mut found = Found {
        bin: 0u32.runtime(),
        above: 0u32.runtime(),
    };
    let mut sum = 0u32;
    // No early way out: so all counts are read at once.
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

/// Makes a histogram empty. Each unit clears its part.
#[cube]
pub(super) fn clear(
    histograms: &Shared<[Atomic<u32>]>,
    #[comptime] histogram: u32,
    #[comptime] units: u32,
) {
    let start = comptime!(histogram * HISTOGRAM);
    #[unroll]
    for part in 0..comptime!(HISTOGRAM.div_ceil(units)) {
        let place = UNIT_POS + comptime!(part * units);
        if place < comptime!(HISTOGRAM) {
            histograms[(start + place) as usize].store(0u32);
        }
    }
}
