//! Cross-entropy: −log p of each row's target, and the gradient of the scores.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::launch::{UNITS, Values, count, grid};
use super::rows::{largest_of_units, sum_of_units};

/// Rows and columns of a table of scores.
///
/// # Panics
/// If there is no target for every row, or the rows are not whole.
fn rows_of(scores: &Values, targets: &Values) -> (usize, usize) {
    let rows = targets.length;
    targets.check("targets", rows);
    assert!(rows > 0, "there are rows of scores");
    let columns = scores.length / rows;
    scores.check("scores", rows * columns);
    (rows, columns)
}

/// −log p of each row's target among `scores`, `[rows, columns]`; and the logarithm of each row's
/// sum of exponentials. Both are `[rows]`. `targets`, `[rows]`, are numbers of columns as i32.
///
/// # Panics
/// If the rows are not whole.
pub fn cross_entropy(client: &Client, scores: &Values, targets: &Values) -> [Values; 2] {
    let (rows, columns) = rows_of(scores, targets);
    let [losses, log_sums] = [(); 2].map(|()| Values::empty(client, rows));
    // SAFETY: the lengths were checked, and the kernel stays within them.
    #[allow(unsafe_code)]
    unsafe {
        losses_kernel::launch_unchecked(
            client,
            grid(rows),
            CubeDim::new_1d(UNITS),
            scores.argument(),
            targets.argument(),
            losses.argument(),
            log_sums.argument(),
            count(rows),
            count(columns),
        );
    }
    [losses, log_sums]
}

/// Turns scores into their gradient, in place, given that of the losses, `[rows]`, and the sums
/// that [`cross_entropy`] returned.
///
/// # Panics
/// If the rows are not whole.
pub fn cross_entropy_backward(
    client: &Client,
    scores: &Values,
    targets: &Values,
    [log_sums, gradient]: [&Values; 2],
) {
    let (rows, columns) = rows_of(scores, targets);
    log_sums.check("sums", rows);
    gradient.check("gradients", rows);
    // SAFETY: the lengths were checked, and the kernel stays within them.
    #[allow(unsafe_code)]
    unsafe {
        backward_kernel::launch_unchecked(
            client,
            grid(rows),
            CubeDim::new_1d(UNITS),
            scores.argument(),
            targets.argument(),
            log_sums.argument(),
            gradient.argument(),
            count(rows),
            count(columns),
        );
    }
}

/// One cube for each row.
#[cube(launch_unchecked)]
fn losses_kernel(
    scores: &[f32],
    targets: &[i32],
    losses: &mut [f32],
    log_sums: &mut [f32],
    rows: u32,
    columns: u32,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let start = row * columns;
    let mut largest = f32::new(-3.0e38);
    let mut column = UNIT_POS;
    while column < columns {
        largest = max(largest, scores[(start + column) as usize]);
        column += comptime!(UNITS);
    }
    let largest = largest_of_units(largest);
    let mut sum = 0.0f32;
    column = UNIT_POS;
    while column < columns {
        sum += (scores[(start + column) as usize] - largest).exp();
        column += comptime!(UNITS);
    }
    let log_sum = largest + sum_of_units(sum).ln();
    if UNIT_POS == 0u32 {
        let target = min(targets[row as usize] as u32, columns - 1u32);
        log_sums[row as usize] = log_sum;
        losses[row as usize] = log_sum - scores[(start + target) as usize];
    }
}

/// One cube for each row.
#[cube(launch_unchecked)]
fn backward_kernel(
    scores: &mut [f32],
    targets: &[i32],
    log_sums: &[f32],
    gradient: &[f32],
    rows: u32,
    columns: u32,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let target = min(targets[row as usize] as u32, columns - 1u32);
    let (log_sum, above) = (log_sums[row as usize], gradient[row as usize]);
    let mut column = UNIT_POS;
    while column < columns {
        let place = (row * columns + column) as usize;
        let likely = (scores[place] - log_sum).exp();
        scores[place] = above * select(column == target, likely - 1.0f32, likely);
        column += comptime!(UNITS);
    }
}
