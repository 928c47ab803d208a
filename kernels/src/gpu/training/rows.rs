//! Sums and maxima over the units of a cube, by a tree in shared memory.

use cubecl::prelude::*;

use super::launch::UNITS;

/// Levels of the tree.
const LEVELS: u32 = UNITS.ilog2();

/// The sum of every unit's number, in every unit.
#[cube]
pub(super) fn sum_of_units(number: f32) -> f32 {
    let mut numbers = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    numbers[UNIT_POS as usize] = number;
    sync_cube();
    #[unroll]
    for level in 0..LEVELS {
        let half = comptime!(UNITS >> (level + 1));
        if UNIT_POS < half {
            let other = numbers[(UNIT_POS + half) as usize];
            numbers[UNIT_POS as usize] += other;
        }
        sync_cube();
    }
    numbers[0]
}

/// The largest of every unit's number, in every unit.
#[cube]
pub(super) fn largest_of_units(number: f32) -> f32 {
    let mut numbers = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    numbers[UNIT_POS as usize] = number;
    sync_cube();
    #[unroll]
    for level in 0..LEVELS {
        let half = comptime!(UNITS >> (level + 1));
        if UNIT_POS < half {
            let other = numbers[(UNIT_POS + half) as usize];
            let own = numbers[UNIT_POS as usize];
            numbers[UNIT_POS as usize] = max(own, other);
        }
        sync_cube();
    }
    numbers[0]
}
