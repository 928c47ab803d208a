//! Prefix scans over the units of a cube: the sum or the maximum over the units before each.
//!
//! Each unit stores its number in a histogram as if it were a bin. After a barrier it reads the
//! totals of the groups before its own, and the units before it in its group. This reads more than
//! a scan by a tree, but waits at one barrier only.

use cubecl::prelude::*;

use super::shape::{BINS, GROUP, HISTOGRAM};

/// Stores this unit's number for a sum.
#[cube]
pub(super) fn deposit(numbers: &Shared<[Atomic<u32>]>, number: u32, #[comptime] histogram: u32) {
    numbers[(comptime!(histogram * HISTOGRAM) + UNIT_POS) as usize].store(number);
    numbers[(comptime!(histogram * HISTOGRAM + BINS) + UNIT_POS / comptime!(GROUP)) as usize]
        .fetch_add(number);
}

/// Stores this unit's number for a maximum.
#[cube]
pub(super) fn deposit_most(
    numbers: &Shared<[Atomic<u32>]>,
    number: u32,
    #[comptime] histogram: u32,
) {
    numbers[(comptime!(histogram * HISTOGRAM) + UNIT_POS) as usize].store(number);
    numbers[(comptime!(histogram * HISTOGRAM + BINS) + UNIT_POS / comptime!(GROUP)) as usize]
        .fetch_max(number);
}

/// The sum over the units before this one.
#[cube]
pub(super) fn before(numbers: &Shared<[Atomic<u32>]>, #[comptime] histogram: u32) -> u32 {
    let (group, place) = (UNIT_POS / comptime!(GROUP), UNIT_POS % comptime!(GROUP));
    let mut sum = 0u32;
    for other in 0..GROUP {
        let groups = numbers[(comptime!(histogram * HISTOGRAM + BINS) + other) as usize].load();
        let unit = comptime!(histogram * HISTOGRAM) + group * comptime!(GROUP) + other;
        sum += select(other < group, groups, 0u32);
        sum += select(other < place, numbers[unit as usize].load(), 0u32);
    }
    sum
}

/// The maximum over the units before this one; 0 for the first.
#[cube]
pub(super) fn most_before(numbers: &Shared<[Atomic<u32>]>, #[comptime] histogram: u32) -> u32 {
    let (group, place) = (UNIT_POS / comptime!(GROUP), UNIT_POS % comptime!(GROUP));
    let mut most = 0u32;
    for other in 0..GROUP {
        let groups = numbers[(comptime!(histogram * HISTOGRAM + BINS) + other) as usize].load();
        let unit = comptime!(histogram * HISTOGRAM) + group * comptime!(GROUP) + other;
        most = max(most, select(other < group, groups, 0u32));
        most = max(
            most,
            select(other < place, numbers[unit as usize].load(), 0u32),
        );
    }
    most
}

/// The sum over all units.
#[cube]
pub(super) fn total(
    numbers: &Shared<[Atomic<u32>]>,
    #[comptime] histogram: u32,
    #[comptime] units: u32,
) -> u32 {
    let mut sum = 0u32;
    #[unroll]
    for group in 0..comptime!(units.div_ceil(GROUP)) {
        sum += numbers[comptime!((histogram * HISTOGRAM + BINS + group) as usize)].load();
    }
    sum
}
