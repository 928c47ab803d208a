//! Rotary positions, with the step from a projection's rows to heads.
//!
//! Component i of a head's rotary part turns together with component i ± half of it:
//!
//! ```text
//! yᵢ = xᵢ cosᵢ + x̄ᵢ sinᵢ,   x̄ᵢ = −xᵢ₊ₕ in the first half, xᵢ₋ₕ in the second, 0 beyond them
//! ```

use cubecl::client::Client;
use cubecl::prelude::*;

use super::launch::{UNITS, Values, count, grid_of_units};

/// The shape of heads, `[sequences, heads, tokens, width]`, and how they rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Sequences.
    pub sequences: usize,
    /// Heads.
    pub heads: usize,
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Components of a head.
    pub width: usize,
    /// Half of the components that rotate.
    pub half: usize,
}

impl Heads {
    pub(super) fn values(&self) -> usize {
        self.sequences * self.heads * self.tokens * self.width
    }
}

/// Rotates rows, `[sequences · tokens, heads · width]`, to heads. Cosines and sines are
/// `[tokens, width]`.
///
/// # Panics
/// If a buffer does not fit `heads`.
pub fn rotate(client: &Client, rows: &Values, tables: [&Values; 2], heads: &Heads) -> Values {
    launch(client, rows, tables, heads, false)
}

/// The gradient of the rows of [`rotate`], given that of the heads.
///
/// # Panics
/// If a buffer does not fit `heads`.
pub fn rotate_backward(
    client: &Client,
    gradient: &Values,
    tables: [&Values; 2],
    heads: &Heads,
) -> Values {
    launch(client, gradient, tables, heads, true)
}

fn launch(
    client: &Client,
    input: &Values,
    [cosines, sines]: [&Values; 2],
    heads: &Heads,
    backward: bool,
) -> Values {
    let length = heads.values();
    input.check("heads", length);
    cosines.check("cosines", heads.tokens * heads.width);
    sines.check("sines", heads.tokens * heads.width);
    assert!(
        2 * heads.half <= heads.width,
        "no more components rotate than there are: {heads:?}"
    );
    let output = Values::empty(client, length);
    // SAFETY: the lengths were checked, and the kernel stays within them.
    #[allow(unsafe_code)]
    unsafe {
        rotate_kernel::launch_unchecked(
            client,
            grid_of_units(length),
            CubeDim::new_1d(UNITS),
            input.argument(),
            cosines.argument(),
            sines.argument(),
            output.argument(),
            count(length),
            count(heads.heads),
            count(heads.tokens),
            count(heads.width),
            count(heads.half),
            backward,
        );
    }
    output
}

/// One unit for each component of the heads.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn rotate_kernel(
    input: &[f32],
    cosines: &[f32],
    sines: &[f32],
    output: &mut [f32],
    length: u32,
    heads: u32,
    tokens: u32,
    width: u32,
    half: u32,
    #[comptime] backward: bool,
) {
    let of_heads = ABSOLUTE_POS as u32;
    if of_heads < length {
        let component = of_heads % width;
        let token = (of_heads / width) % tokens;
        let head = (of_heads / (width * tokens)) % heads;
        let sequence = of_heads / (width * tokens * heads);
        let of_rows = ((sequence * tokens + token) * heads + head) * width + component;
        let in_first = component < half;
        let turns = component < 2u32 * half;
        // The component that this one turns with; itself if it does not turn.
        let step = select(turns, half, 0u32);
        let read = if comptime!(backward) {
            of_heads
        } else {
            of_rows
        };
        let written = if comptime!(backward) {
            of_rows
        } else {
            of_heads
        };
        let other = select(in_first, read + step, read - step);
        let table = token * width + component;
        let other_table = select(in_first, table + step, table - step);
        let cosine = cosines[table as usize];
        // Forward a component takes −sin of its partner in the first half; backward the signs swap.
        let turned = if comptime!(backward) {
            select(in_first, 1.0f32, -1.0f32) * sines[other_table as usize]
        } else {
            select(in_first, -1.0f32, 1.0f32) * sines[table as usize]
        };
        let turned = select(turns, turned, 0.0f32);
        output[written as usize] = input[read as usize] * cosine + input[other as usize] * turned;
    }
}
