//! A chunk's scale in whole numbers, identical to [`Scale::of`](crate::quantise::Scale::of).

#![allow(clippy::needless_range_loop)] // CubeCL loops over numbers only

use cubecl::prelude::*;

use crate::quantise::{MIDDLES, OCTAVE, UNIT_OF_BITS};

/// The sum of a mean's exponents in the first octave of scales.
const FIRST_OCTAVE: u32 = UNIT_OF_BITS as u32 + OCTAVE[0].ilog2();
/// The biased exponent of the first octave's scales.
const FIRST_EXPONENT: u32 = FIRST_OCTAVE - 23;

/// The number of bits to drop from 24-bit mantissas so that the sum of `count` fits 31 bits.
#[cube]
fn dropped_bits(count: u32) -> u32 {
    let log = 32u32 - (count - 1u32).leading_zeros();
    if log > 7u32 {
        log - 7u32
    } else {
        0u32.runtime()
    }
}

/// A magnitude's biased exponent; 1 for denormals.
#[cube]
fn exponent(magnitude: u32) -> u32 {
    max(magnitude >> 23u32, 1u32)
}

/// A magnitude's mantissa, truncated for a sum of `count` of them.
#[cube]
pub(super) fn cut(magnitude: u32, largest_exponent: u32, count: u32) -> u32 {
    let hidden = select(
        magnitude >> 23u32 == 0u32,
        0u32,
        comptime!(1u32 << 23).runtime(),
    );
    let mantissa = (magnitude & 0x7f_ffffu32) | hidden;
    mantissa
        >> min(
            dropped_bits(count) + largest_exponent - exponent(magnitude),
            31u32,
        )
}

/// The number of the scale for `count` magnitudes whose truncated mantissas add up to `sum`.
#[cube]
pub(super) fn number(sum: u32, largest_exponent: u32, count: u32) -> u32 {
    let mean = sum / count;
    let mut number = 0u32;
    if mean != 0u32 {
        let top = 31u32 - mean.leading_zeros();
        let fraction = mean << (23u32 - top);
        let octave = top + largest_exponent + dropped_bits(count);
        if octave == comptime!(FIRST_OCTAVE - 1) && fraction > comptime!(1u32 << 23) {
            number = 1u32.runtime();
        }
        if octave >= comptime!(FIRST_OCTAVE) {
            number = 8u32 * (octave - comptime!(FIRST_OCTAVE)) + 1u32;
            #[unroll]
            for place in 0..8usize {
                number += select(fraction > comptime!(MIDDLES[place]), 1u32, 0u32);
            }
            number = min(number, 255u32);
        }
    }
    number
}

/// The scale with this number, as the bits of an f32. `number` is not 0.
#[cube]
pub(super) fn bits(number: u32) -> u32 {
    let (octave, place) = ((number - 1u32) / 8u32, (number - 1u32) % 8u32);
    let mut units = 0u32;
    #[unroll]
    for candidate in 0..8usize {
        units = select(
            place == comptime!(candidate as u32),
            comptime!(OCTAVE[candidate]).runtime(),
            units,
        );
    }
    // An entry of OCTAVE has ten bits. A float does not store the first.
    ((octave + comptime!(FIRST_EXPONENT)) << 23u32) | ((units & 0x1ffu32) << 14u32)
}
