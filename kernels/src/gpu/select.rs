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

/// The bin of the `wanted`-th largest value counted.
#[cube]
pub(super) fn find(histograms: &Shared<[Atomic<u32>]>, wanted: u32, #[comptime] histogram: u32) -> Found {
    let groups = comptime!(histogram * HISTOGRAM + BINS);
    let mut above = 0u32;
    let mut group = comptime!(BINS / GROUP - 1).runtime();
    let mut here = histograms[(groups + group) as usize].load();
    while group > 0u32 && above + here < wanted {
        above += here;
        group -= 1u32;
        here = histograms[(groups + group) as usize].load();
    }
    let start = comptime!(histogram * HISTOGRAM);
    let least = group * comptime!(GROUP);
    let mut bin = least + comptime!(GROUP - 1);
    here = histograms[(start + bin) as usize].load();
    while bin > least && above + here < wanted {
        above += here;
        bin -= 1u32;
        here = histograms[(start + bin) as usize].load();
    }
    Found { bin, above }
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
