//! Sums of squares.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::launch::{UNITS, Values, count, grid};
use super::rows::sum_of_units;

/// Values that one cube sums up at most.
const PART: usize = 1 << 16;

/// The sums of squares of parts of the tensors, in no particular grouping: together they are the
/// sum of all squares. Always in the same order.
pub fn sum_of_squares(client: &Client, tensors: &[Values]) -> Values {
    let parts = |values: &Values| values.length.div_ceil(PART).max(1);
    let sums = Values::empty(client, tensors.iter().map(parts).sum());
    let mut start = 0;
    for values in tensors {
        values.check("a tensor", values.length);
        // SAFETY: each cube writes its own sum, of which there are enough, and reads within the
        // tensor.
        #[allow(unsafe_code)]
        unsafe {
            squares_kernel::launch_unchecked(
                client,
                grid(parts(values)),
                CubeDim::new_1d(UNITS),
                values.argument(),
                sums.argument(),
                count(values.length),
                count(parts(values)),
                count(start),
            );
        }
        start += parts(values);
    }
    sums
}

#[cube(launch_unchecked)]
fn squares_kernel(values: &[f32], sums: &mut [f32], length: u32, parts: u32, start: u32) {
    let part = CUBE_POS as u32;
    if part >= parts {
        terminate!();
    }
    let begin = part * comptime!(PART as u32);
    let mut sum = 0.0f32;
    for row in 0..comptime!(PART as u32 / UNITS) {
        let place = begin + row * comptime!(UNITS) + UNIT_POS;
        if place < length {
            let value = values[place as usize];
            sum += value * value;
        }
    }
    let sum = sum_of_units(sum);
    if UNIT_POS == 0u32 {
        sums[(start + part) as usize] = sum;
    }
}
