//! SwiGLU's gate: g · σ(g) · u; see [`crate::swiglu`].

use cubecl::client::Client;
use cubecl::prelude::*;

use super::launch::{UNITS, Values, count, grid_of_units};

/// The gated values.
///
/// # Panics
/// If the buffers differ in length.
pub fn swiglu(client: &Client, gates: &Values, ups: &Values) -> Values {
    let length = gates.length;
    gates.check("gates", length);
    ups.check("ups", length);
    let gated = Values::empty(client, length);
    // SAFETY: the lengths were checked, and the kernel stays within them.
    #[allow(unsafe_code)]
    unsafe {
        swiglu_kernel::launch_unchecked(
            client,
            grid_of_units(length),
            CubeDim::new_1d(UNITS),
            gates.argument(),
            ups.argument(),
            gated.argument(),
            count(length),
        );
    }
    gated
}

/// The gradient of the gates, given that of the gated values, which becomes the gradient of the
/// ups.
///
/// # Panics
/// If the buffers differ in length.
pub fn swiglu_backward(client: &Client, gates: &Values, ups: &Values, gradient: &Values) -> Values {
    let length = gates.length;
    for (what, values) in [("gates", gates), ("ups", ups), ("gradients", gradient)] {
        values.check(what, length);
    }
    let of_gates = Values::empty(client, length);
    // SAFETY: the lengths were checked, and the kernel stays within them.
    #[allow(unsafe_code)]
    unsafe {
        swiglu_backward_kernel::launch_unchecked(
            client,
            grid_of_units(length),
            CubeDim::new_1d(UNITS),
            gates.argument(),
            ups.argument(),
            gradient.argument(),
            of_gates.argument(),
            count(length),
        );
    }
    of_gates
}

#[cube(launch_unchecked)]
fn swiglu_kernel(gates: &[f32], ups: &[f32], gated: &mut [f32], length: u32) {
    let place = ABSOLUTE_POS;
    if place < length as usize {
        let gate = gates[place];
        gated[place] = gate * sigmoid(gate) * ups[place];
    }
}

#[cube(launch_unchecked)]
fn swiglu_backward_kernel(
    gates: &[f32],
    ups: &[f32],
    gradient: &mut [f32],
    of_gates: &mut [f32],
    length: u32,
) {
    let place = ABSOLUTE_POS;
    if place < length as usize {
        let (gate, above) = (gates[place], gradient[place]);
        let open = sigmoid(gate);
        of_gates[place] = above * ups[place] * open * (1.0f32 + gate * (1.0f32 - open));
        gradient[place] = above * gate * open;
    }
}

/// 1 / (1 + exp(−x)), without an overflow that some devices turn into NaN.
#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-max(x, -80.0f32)).exp())
}
