//! RMSNorm (Zhang and Sennrich, 2019, <https://arxiv.org/abs/1910.07467>), forward and backward.
//!
//! With r = 1 / √(mean x² + ε), a row x of n values and the gain g:
//!
//! ```text
//! y = g ∘ r x    δx = r (g ∘ δy) − x r³/n Σ x ∘ g ∘ δy    δg = Σ over rows of r x ∘ δy
//! ```

use cubecl::client::Client;
use cubecl::prelude::*;

use super::launch::{UNITS, Values, count, grid};
use super::rows::sum_of_units;

/// Rows whose part of the gain's gradient one unit sums up.
const ROWS: usize = 64;

/// The gradients of a norm.
#[derive(Clone, Debug)]
pub struct NormGradients {
    /// Of the input.
    pub input: Values,
    /// Of the gain, `[parts, width]`: the sum over the parts is the gradient.
    pub gain: Values,
}

/// Rows and columns of a norm's input.
///
/// # Panics
/// If the input does not have whole rows.
fn rows_of(input: &Values, gain: &Values) -> (usize, usize) {
    let width = gain.length;
    gain.check("gain", width);
    assert!(width > 0, "a row has values");
    let rows = input.length / width;
    input.check("rows of a norm", rows * width);
    (rows, width)
}

/// The normed rows of `input`, `[rows, width]`, times `gain`, `[width]`; and each row's factor r,
/// `[rows]`.
///
/// # Panics
/// If the input does not have whole rows.
pub fn rms_norm(client: &Client, input: &Values, gain: &Values, epsilon: f32) -> [Values; 2] {
    let (rows, width) = rows_of(input, gain);
    let (output, factors) = (
        Values::empty(client, input.length),
        Values::empty(client, rows),
    );
    // SAFETY: the lengths were checked, and the kernel stays within them.
    #[allow(unsafe_code)]
    unsafe {
        norm_kernel::launch_unchecked(
            client,
            grid(rows),
            CubeDim::new_1d(UNITS),
            input.argument(),
            gain.argument(),
            output.argument(),
            factors.argument(),
            epsilon,
            count(rows),
            count(width),
        );
    }
    [output, factors]
}

/// The gradients of [`rms_norm`], given that of its output and the factors it returned.
///
/// # Panics
/// If the buffers' lengths do not match.
pub fn rms_norm_backward(
    client: &Client,
    [input, gain]: [&Values; 2],
    factors: &Values,
    gradient: &Values,
) -> NormGradients {
    let (rows, width) = rows_of(input, gain);
    factors.check("factors", rows);
    gradient.check("gradients", input.length);
    let parts = rows.div_ceil(ROWS).max(1);
    let of_input = Values::empty(client, input.length);
    let of_gain = Values::empty(client, parts * width);
    // SAFETY: the lengths were checked, and the kernels stay within them.
    #[allow(unsafe_code)]
    unsafe {
        norm_backward_kernel::launch_unchecked(
            client,
            grid(rows),
            CubeDim::new_1d(UNITS),
            input.argument(),
            gain.argument(),
            factors.argument(),
            gradient.argument(),
            of_input.argument(),
            count(rows),
            count(width),
        );
        gain_kernel::launch_unchecked(
            client,
            grid(width.div_ceil(UNITS as usize) * parts),
            CubeDim::new_1d(UNITS),
            input.argument(),
            factors.argument(),
            gradient.argument(),
            of_gain.argument(),
            count(rows),
            count(width),
            count(parts),
        );
    }
    NormGradients {
        input: of_input,
        gain: of_gain,
    }
}

/// One cube for each row.
#[cube(launch_unchecked)]
fn norm_kernel(
    input: &[f32],
    gain: &[f32],
    output: &mut [f32],
    factors: &mut [f32],
    epsilon: f32,
    rows: u32,
    width: u32,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let start = row * width;
    let mut squares = 0.0f32;
    let mut column = UNIT_POS;
    while column < width {
        let value = input[(start + column) as usize];
        squares += value * value;
        column += comptime!(UNITS);
    }
    let mean = sum_of_units(squares) / f32::cast_from(width);
    let factor = 1.0f32 / (mean + epsilon).sqrt();
    if UNIT_POS == 0u32 {
        factors[row as usize] = factor;
    }
    column = UNIT_POS;
    while column < width {
        let place = (start + column) as usize;
        output[place] = input[place] * factor * gain[column as usize];
        column += comptime!(UNITS);
    }
}

/// One cube for each row.
#[cube(launch_unchecked)]
fn norm_backward_kernel(
    input: &[f32],
    gain: &[f32],
    factors: &[f32],
    gradient: &[f32],
    of_input: &mut [f32],
    rows: u32,
    width: u32,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let start = row * width;
    let mut along = 0.0f32;
    let mut column = UNIT_POS;
    while column < width {
        let place = (start + column) as usize;
        along += input[place] * gain[column as usize] * gradient[place];
        column += comptime!(UNITS);
    }
    let factor = factors[row as usize];
    let shrink = sum_of_units(along) * factor * factor * factor / f32::cast_from(width);
    column = UNIT_POS;
    while column < width {
        let place = (start + column) as usize;
        of_input[place] = factor * gain[column as usize] * gradient[place] - input[place] * shrink;
        column += comptime!(UNITS);
    }
}

/// One unit for each column and part of the rows.
#[cube(launch_unchecked)]
fn gain_kernel(
    input: &[f32],
    factors: &[f32],
    gradient: &[f32],
    of_gain: &mut [f32],
    rows: u32,
    width: u32,
    parts: u32,
) {
    let across = (width + comptime!(UNITS - 1)) / comptime!(UNITS);
    let cube = CUBE_POS as u32;
    let part = cube / across;
    let column = (cube % across) * comptime!(UNITS) + UNIT_POS;
    if part < parts && column < width {
        let first = part * comptime!(ROWS as u32);
        let last = min(first + comptime!(ROWS as u32), rows);
        let mut sum = 0.0f32;
        for row in first..last {
            let place = (row * width + column) as usize;
            sum += input[place] * factors[row as usize] * gradient[place];
        }
        of_gain[(part * width + column) as usize] = sum;
    }
}
