//! The forward pass: one cube for each tile of queries of a head.

use cubecl::prelude::*;

use super::tiles::{
    HELD, PER_ROW, PER_UNIT, Rows, SIDE, STAGED, STRIDE, TILE, add_weighted, columns, multiply,
    scale_rows, store_tile, write_rows,
};
use super::{Sizes, capped, query_tile, seen_keys, sees};
use crate::gpu::training::launch::UNITS;

/// The score of a key that a query does not see; far below any that it sees.
const HIDDEN: f32 = -3.0e38;
/// No score that is not hidden is below.
const LEAST: f32 = -1.0e38;

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn kernel(
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    output: &mut [f32],
    log_sums: &mut [f32],
    sizes: Sizes,
    #[comptime] width: u32,
    #[comptime] has_cap: bool,
) {
    if CUBE_POS as u32 >= sizes.queries.div_ceil(TILE) * sizes.heads {
        terminate!();
    }
    let queried = query_tile(&sizes, width);
    let (first, row, of_head) = (queried.first, queried.row, queried.keys);
    let own = queried.rows;
    let (down, across) = (UNIT_POS / SIDE, UNIT_POS % SIDE);

    let mut stage = Shared::<[f32]>::new_slice(comptime!(STAGED as usize));
    let mut tile = Shared::<[f32]>::new_slice(comptime!((TILE * STRIDE) as usize));
    let mut largest_of_parts = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let mut sums_of_parts = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let mut factors = Shared::<[f32]>::new_slice(comptime!(TILE as usize));

    let mut scores = Array::<f32>::new(comptime!(HELD as usize));
    let mut sums = Array::<f32>::new(comptime!((PER_UNIT * columns(width)) as usize));
    // Of the row of the tile that this unit reduces, with three others.
    let (reduced, part) = (UNIT_POS / PER_ROW, UNIT_POS % PER_ROW);
    let mut largest = f32::new(HIDDEN);
    let mut sum = 0.0f32;

    let seen = seen_keys(first, own.count, &sizes);
    let mut from = seen.from;
    while from < seen.to {
        let rows = Rows {
            first: (of_head + from) * width,
            count: min(sizes.keys - from, TILE),
        };
        multiply(&mut scores, queries, &own, keys, &rows, &mut stage, width);
        #[unroll]
        for row in 0..PER_UNIT {
            #[unroll]
            for column in 0..PER_UNIT {
                let place = comptime!((row * PER_UNIT + column) as usize);
                let query = first + down + row * SIDE;
                let key = from + across + column * SIDE;
                let score = capped(scores[place], sizes.cap, has_cap);
                scores[place] = select(sees(query, key, &sizes), score, f32::new(HIDDEN));
            }
        }
        store_tile(&scores, &mut tile);
        sync_cube();

        let start = reduced * STRIDE + part * comptime!(TILE / PER_ROW);
        let mut largest_of_part = f32::new(HIDDEN);
        for column in 0..comptime!(TILE / PER_ROW) {
            largest_of_part = max(largest_of_part, tile[(start + column) as usize]);
        }
        largest_of_parts[UNIT_POS as usize] = largest_of_part;
        sync_cube();

        let before = largest;
        #[unroll]
        for part in 0..PER_ROW {
            let other = largest_of_parts[(reduced * PER_ROW + part) as usize];
            largest = max(largest, other);
        }
        let mut sum_of_part = 0.0f32;
        for column in 0..comptime!(TILE / PER_ROW) {
            let place = (start + column) as usize;
            let score = tile[place];
            let weight = select(score > f32::new(LEAST), (score - largest).exp(), 0.0f32);
            tile[place] = weight;
            sum_of_part += weight;
        }
        sums_of_parts[UNIT_POS as usize] = sum_of_part;
        let factor = (before - largest).exp();
        if part == 0u32 {
            factors[reduced as usize] = factor;
        }
        sync_cube();

        sum *= factor;
        #[unroll]
        for part in 0..PER_ROW {
            sum += sums_of_parts[(reduced * PER_ROW + part) as usize];
        }
        scale_rows(&mut sums, &factors, width);
        add_weighted(&mut sums, &tile, values, &rows, &mut stage, width, false);
        from += TILE;
    }

    sync_cube();
    if part == 0u32 {
        factors[reduced as usize] = 1.0f32 / sum;
        if reduced < own.count {
            log_sums[(row + reduced) as usize] = largest + sum.ln();
        }
    }
    sync_cube();
    scale_rows(&mut sums, &factors, width);
    write_rows(&sums, output, &own, width);
}
