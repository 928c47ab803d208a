//! AdamW's update in one pass; see [`crate::update`] for the formula.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::launch::{UNITS, Values, count, grid_of_units};
use crate::update::AdamW;

/// Updates weights and both moments with a gradient, in place.
///
/// # Panics
/// If the buffers differ in length.
pub fn adamw(
    client: &Client,
    [weights, first, second]: [&Values; 3],
    gradients: &Values,
    settings: &AdamW,
) {
    let length = weights.length;
    for (what, values) in [
        ("weights", weights),
        ("first moments", first),
        ("second moments", second),
        ("gradients", gradients),
    ] {
        values.check(what, length);
    }
    // SAFETY: the lengths were checked, and the kernel stays within them.
    #[allow(unsafe_code)]
    unsafe {
        adamw_kernel::launch_unchecked(
            client,
            grid_of_units(length),
            CubeDim::new_1d(UNITS),
            weights.argument(),
            first.argument(),
            second.argument(),
            gradients.argument(),
            settings.scale,
            settings.beta1,
            settings.beta2,
            settings.rate,
            settings.correction2,
            settings.epsilon,
            settings.kept,
            count(length),
        );
    }
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn adamw_kernel(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradients: &[f32],
    scale: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    correction2: f32,
    epsilon: f32,
    kept: f32,
    length: u32,
) {
    let place = ABSOLUTE_POS;
    if place < length as usize {
        let gradient = gradients[place] * scale;
        let mean = beta1 * first[place] + (1.0f32 - beta1) * gradient;
        let square = beta2 * second[place] + (1.0f32 - beta2) * gradient * gradient;
        first[place] = mean;
        second[place] = square;
        let root = (square * correction2).sqrt() + epsilon;
        weights[place] = kept * weights[place] - rate * mean / root;
    }
}
