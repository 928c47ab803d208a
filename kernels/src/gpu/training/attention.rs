//! Attention weights from scores, and the gradient of the scores, a row of keys at a time.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::launch::{UNITS, Values, count, grid};
use super::rows::{largest_of_units, sum_of_units};

/// Which keys the rows of a table of scores hold, and which of them each row's query sees.
///
/// Rows come in groups of `queries`. Query q of a group has position `first_query` + q; key k of a
/// row has position `first_key` + k. A query sees the keys at positions up to its own, and only the
/// newest `window` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenKeys {
    /// Scores in a row, one for each key.
    pub keys: usize,
    /// Queries in a group.
    pub queries: usize,
    /// Position of a group's first query.
    pub first_query: usize,
    /// Position of a row's first key.
    pub first_key: usize,
    /// The most keys that a query sees, its own included; `usize::MAX` for all before it.
    pub window: usize,
}

impl SeenKeys {
    /// Rows of a table of `scores`.
    ///
    /// # Panics
    /// If it does not have whole groups of rows, or a query sees no key.
    fn rows(&self, scores: &Values) -> usize {
        let group = self.keys * self.queries;
        assert!(
            group > 0 && self.window > 0 && self.first_key <= self.first_query,
            "each query sees its own key: {self:?}"
        );
        scores.check("scores", scores.length / group * group);
        scores.length / self.keys
    }

    /// The window as a number that no position reaches if there is none.
    fn window(&self) -> u32 {
        u32::try_from(self.window).unwrap_or(u32::MAX)
    }
}

/// Turns scores into attention weights, in place. Returns the logarithm of each row's sum of
/// exponentials, `[rows]`.
///
/// # Panics
/// If the scores do not fit `seen`.
pub fn attention_weights(client: &Client, scores: &Values, seen: &SeenKeys) -> Values {
    let rows = seen.rows(scores);
    let log_sums = Values::empty(client, rows);
    // SAFETY: the lengths were checked, and the kernel stays within them.
    #[allow(unsafe_code)]
    unsafe {
        weights_kernel::launch_unchecked(
            client,
            grid(rows),
            CubeDim::new_1d(UNITS),
            scores.argument(),
            log_sums.argument(),
            count(rows),
            count(seen.keys),
            count(seen.queries),
            count(seen.first_query),
            count(seen.first_key),
            seen.window(),
        );
    }
    log_sums
}

/// Turns scores into attention weights, given the sums that [`attention_weights`] returned, and the
/// gradient of the weights into that of the scores, both in place. `means` is Σ p ∘ δp of each row.
///
/// # Panics
/// If a buffer does not fit `seen`.
pub fn attention_backward(
    client: &Client,
    [scores, gradient]: [&Values; 2],
    [log_sums, means]: [&Values; 2],
    seen: &SeenKeys,
) {
    let rows = seen.rows(scores);
    gradient.check("gradients", scores.length);
    log_sums.check("sums", rows);
    means.check("means", rows);
    // SAFETY: the lengths were checked, and the kernel stays within them.
    #[allow(unsafe_code)]
    unsafe {
        backward_kernel::launch_unchecked(
            client,
            grid(rows),
            CubeDim::new_1d(UNITS),
            scores.argument(),
            gradient.argument(),
            log_sums.argument(),
            means.argument(),
            count(rows),
            count(seen.keys),
            count(seen.queries),
            count(seen.first_query),
            count(seen.first_key),
            seen.window(),
        );
    }
}

/// The keys of a row that its query sees, from one number up to another.
#[derive(CubeType, Clone, Copy)]
struct Seen {
    from: u32,
    to: u32,
}

#[cube]
fn seen(row: u32, keys: u32, queries: u32, first_query: u32, first_key: u32, window: u32) -> Seen {
    // The number of keys up to and with the query's own.
    let all = first_query + row % queries + 1u32 - first_key;
    Seen {
        from: select(all > window, all - window, 0u32),
        to: min(all, keys),
    }
}

/// One cube for each row.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn weights_kernel(
    scores: &mut [f32],
    log_sums: &mut [f32],
    rows: u32,
    keys: u32,
    queries: u32,
    first_query: u32,
    first_key: u32,
    window: u32,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let seen = seen(row, keys, queries, first_query, first_key, window);
    let start = row * keys;
    let mut largest = f32::new(-3.0e38);
    let mut key = seen.from + UNIT_POS;
    while key < seen.to {
        largest = max(largest, scores[(start + key) as usize]);
        key += comptime!(UNITS);
    }
    let largest = largest_of_units(largest);
    let mut sum = 0.0f32;
    key = seen.from + UNIT_POS;
    while key < seen.to {
        sum += (scores[(start + key) as usize] - largest).exp();
        key += comptime!(UNITS);
    }
    let sum = sum_of_units(sum);
    if UNIT_POS == 0u32 {
        log_sums[row as usize] = largest + sum.ln();
    }
    key = UNIT_POS;
    while key < keys {
        let place = (start + key) as usize;
        let weight = (scores[place] - largest).exp() / sum;
        scores[place] = select(key >= seen.from && key < seen.to, weight, 0.0f32);
        key += comptime!(UNITS);
    }
}

/// One cube for each row.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn backward_kernel(
    scores: &mut [f32],
    gradient: &mut [f32],
    log_sums: &[f32],
    means: &[f32],
    rows: u32,
    keys: u32,
    queries: u32,
    first_query: u32,
    first_key: u32,
    window: u32,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let seen = seen(row, keys, queries, first_query, first_key, window);
    let (log_sum, mean) = (log_sums[row as usize], means[row as usize]);
    let mut key = UNIT_POS;
    while key < keys {
        let place = (row * keys + key) as usize;
        let is_seen = key >= seen.from && key < seen.to;
        let weight = select(is_seen, (scores[place] - log_sum).exp(), 0.0f32);
        scores[place] = weight;
        gradient[place] = weight * (gradient[place] - mean);
        key += comptime!(UNITS);
    }
}
