//! The `keep`-th largest magnitude of a chunk, by its digits.
//!
//! A histogram of the highest eight bits tells in which bin it lies, one of the next eight bits of the values in that bin
//! tells more, and so on: four levels for 31 bits, without sorting anything (radix selection). Counting 4096 values in the few bins that
//! real gradients' exponents fall into would be slow, for every count waits for the one before. So the same is done
//! first with the largest value of each unit, for two levels: at least `keep` values reach what that finds, and of the
//! others hardly one in a hundred does.

use cubecl::prelude::*;

use super::shape::{BINS, GROUP, HISTOGRAM};

/// Where the value that is looked for lies.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Found {
    /// The bin.
    pub bin: u32,
    /// Values in higher bins.
    pub above: u32,
}

/// Counts a value in a bin.
#[cube]
pub(super) fn count(histograms: &Shared<[Atomic<u32>]>, bin: u32, #[comptime] histogram: u32) {
    let start = comptime!(histogram * HISTOGRAM);
    histograms[(start + bin) as usize].fetch_add(1u32);
    histograms[(start + comptime!(BINS) + bin / comptime!(GROUP)) as usize].fetch_add(1u32);
}

/// The bin of the `wanted`-th largest value counted: first its group, then the bin in it.
#[cube]
pub(super) fn find(histograms: &Shared<[Atomic<u32>]>, wanted: u32, #[comptime] histogram: u32) -> Found {
    let start = comptime!(histogram * HISTOGRAM).runtime();
    let group = highest(histograms, start + comptime!(BINS), wanted);
    let least = group.bin * comptime!(GROUP);
    let found = highest(histograms, start + least, wanted - group.above);
    Found { bin: least + found.bin, above: group.above + found.above }
}

/// Which of the counts from `start` on, from the highest down, is the one that reaches `wanted`.
#[cube]
fn highest(histograms: &Shared<[Atomic<u32>]>, start: u32, wanted: u32) -> Found {
    let mut found = Found { bin: 0u32.runtime(), above: 0u32.runtime() };
    let mut sum = 0u32;
    // No early way out: so all counts are read at once.
    #[unroll]
    for step in 0..GROUP {
        let bin = comptime!(GROUP - 1 - step);
        let count = histograms[(start + bin) as usize].load();
        if sum < wanted {
            found.bin = bin.runtime();
            found.above = sum;
        }
        sum += count;
    }
    found
}

/// Makes a histogram empty. Each unit clears its part.
#[cube]
pub(super) fn clear(histograms: &Shared<[Atomic<u32>]>, #[comptime] histogram: u32, #[comptime] units: u32) {
    let start = comptime!(histogram * HISTOGRAM);
    #[unroll]
    for part in 0..comptime!(HISTOGRAM.div_ceil(units)) {
        let place = UNIT_POS + comptime!(part * units);
        if place < comptime!(HISTOGRAM) {
            histograms[(start + place) as usize].store(0u32);
        }
    }
}
