//! The backward pass: by tiles of queries, then by tiles of keys.

use cubecl::prelude::*;

use super::tiles::{
    HELD, PER_ROW, PER_UNIT, Rows, SIDE, STAGED, STRIDE, TILE, add_weighted, columns, multiply,
    store_tile, write_rows,
};
use super::{Sizes, capped, query_tile, seen_keys, sees};
use crate::gpu::training::launch::UNITS;

/// The gradient of the queries, and Σ δo ∘ o of each. One cube for each tile of queries of a head.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn kernel_by_queries(
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    output: &[f32],
    above: &[f32],
    log_sums: &[f32],
    means: &mut [f32],
    of_queries: &mut [f32],
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

    let mut stage = Shared::<[f32]>::new_slice(comptime!(STAGED as usize));
    let mut tile = Shared::<[f32]>::new_slice(comptime!((TILE * STRIDE) as usize));
    let mut parts = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let mut log_sums_of_rows = Shared::<[f32]>::new_slice(comptime!(TILE as usize));
    let mut means_of_rows = Shared::<[f32]>::new_slice(comptime!(TILE as usize));

    // Four units share a row.
    let (reduced, part) = (UNIT_POS / PER_ROW, UNIT_POS % PER_ROW);
    let mut along = 0.0f32;
    if reduced < own.count {
        let mut component = part;
        while component < width {
            let place = (own.first + reduced * width + component) as usize;
            along += output[place] * above[place];
            component += PER_ROW;
        }
    }
    parts[UNIT_POS as usize] = along;
    sync_cube();
    if UNIT_POS < TILE {
        let mut mean = 0.0f32;
        #[unroll]
        for part in 0..PER_ROW {
            mean += parts[(UNIT_POS * PER_ROW + part) as usize];
        }
        means_of_rows[UNIT_POS as usize] = mean;
        let mut log_sum = 0.0f32;
        if UNIT_POS < own.count {
            log_sum = log_sums[(row + UNIT_POS) as usize];
            means[(row + UNIT_POS) as usize] = mean;
        }
        log_sums_of_rows[UNIT_POS as usize] = log_sum;
    }
    sync_cube();

    let mut weights = Array::<f32>::new(comptime!(HELD as usize));
    let mut gradients = Array::<f32>::new(comptime!(HELD as usize));
    let mut sums = Array::<f32>::new(comptime!((PER_UNIT * columns(width)) as usize));
    let seen = seen_keys(first, own.count, &sizes);
    let mut from = seen.from;
    while from < seen.to {
        let rows = Rows {
            first: (of_head + from) * width,
            count: min(sizes.keys - from, TILE),
        };
        multiply(&mut weights, queries, &own, keys, &rows, &mut stage, width);
        multiply(
            &mut gradients,
            above,
            &own,
            values,
            &rows,
            &mut stage,
            width,
        );
        differentiate(
            &mut weights,
            &mut gradients,
            first,
            from,
            &log_sums_of_rows,
            &means_of_rows,
            &sizes,
            has_cap,
        );
        store_tile(&gradients, &mut tile);
        add_weighted(&mut sums, &tile, keys, &rows, &mut stage, width, false);
        from += TILE;
    }
    write_rows(&sums, of_queries, &own, width);
}

/// The gradients of keys and values. One cube for each tile of keys of a head.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn kernel_by_keys(
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    above: &[f32],
    log_sums: &[f32],
    means: &[f32],
    of_keys: &mut [f32],
    of_values: &mut [f32],
    sizes: Sizes,
    #[comptime] width: u32,
    #[comptime] has_cap: bool,
) {
    let heads = sizes.heads / sizes.group;
    let cube = CUBE_POS as u32;
    if cube >= sizes.keys.div_ceil(TILE) * heads {
        terminate!();
    }
    // The first keys are seen by most queries, and begin first.
    let first = cube / heads * TILE;
    let head = cube % heads;
    let own = Rows {
        first: (head * sizes.keys + first) * width,
        count: min(sizes.keys - first, TILE),
    };

    let mut stage = Shared::<[f32]>::new_slice(comptime!(STAGED as usize));
    let mut tile = Shared::<[f32]>::new_slice(comptime!((TILE * STRIDE) as usize));
    let mut log_sums_of_rows = Shared::<[f32]>::new_slice(comptime!(TILE as usize));
    let mut means_of_rows = Shared::<[f32]>::new_slice(comptime!(TILE as usize));

    let mut weights = Array::<f32>::new(comptime!(HELD as usize));
    let mut gradients = Array::<f32>::new(comptime!(HELD as usize));
    let mut sums_of_keys = Array::<f32>::new(comptime!((PER_UNIT * columns(width)) as usize));
    let mut sums_of_values = Array::<f32>::new(comptime!((PER_UNIT * columns(width)) as usize));

    // The first query that sees one of the keys, and the one after the last.
    let last = first + own.count - 1u32;
    let nearest = select(first > sizes.first_query, first - sizes.first_query, 0u32);
    let mut end = sizes.queries;
    if sizes.window < sizes.keys {
        let beyond = last + sizes.window;
        let furthest = select(beyond > sizes.first_query, beyond - sizes.first_query, 0u32);
        end = min(end, furthest);
    }
    for of_group in 0..sizes.group {
        let of_head = (head * sizes.group + of_group) * sizes.queries;
        let mut from = nearest / TILE * TILE;
        while from < end {
            let row = of_head + from;
            let rows = Rows {
                first: row * width,
                count: min(sizes.queries - from, TILE),
            };
            sync_cube();
            if UNIT_POS < TILE {
                let mut log_sum = 0.0f32;
                let mut mean = 0.0f32;
                if UNIT_POS < rows.count {
                    log_sum = log_sums[(row + UNIT_POS) as usize];
                    mean = means[(row + UNIT_POS) as usize];
                }
                log_sums_of_rows[UNIT_POS as usize] = log_sum;
                means_of_rows[UNIT_POS as usize] = mean;
            }
            multiply(&mut weights, queries, &rows, keys, &own, &mut stage, width);
            multiply(
                &mut gradients,
                above,
                &rows,
                values,
                &own,
                &mut stage,
                width,
            );
            differentiate(
                &mut weights,
                &mut gradients,
                from,
                first,
                &log_sums_of_rows,
                &means_of_rows,
                &sizes,
                has_cap,
            );
            store_tile(&weights, &mut tile);
            add_weighted(
                &mut sums_of_values,
                &tile,
                above,
                &rows,
                &mut stage,
                width,
                true,
            );
            sync_cube();
            store_tile(&gradients, &mut tile);
            add_weighted(
                &mut sums_of_keys,
                &tile,
                queries,
                &rows,
                &mut stage,
                width,
                true,
            );
            from += TILE;
        }
    }
    write_rows(&sums_of_keys, of_keys, &own, width);
    write_rows(&sums_of_values, of_values, &own, width);
}

/// Turns scores into weights, and the gradients of weights into those of scores.
#[cube]
#[allow(clippy::too_many_arguments)]
fn differentiate(
    weights: &mut Array<f32>,
    gradients: &mut Array<f32>,
    first_query: u32,
    first_key: u32,
    log_sums: &Shared<[f32]>,
    means: &Shared<[f32]>,
    sizes: &Sizes,
    #[comptime] has_cap: bool,
) {
    let (down, across) = (UNIT_POS / SIDE, UNIT_POS % SIDE);
    #[unroll]
    for row in 0..PER_UNIT {
        let of_tile = down + row * SIDE;
        let query = first_query + of_tile;
        let (log_sum, mean) = (log_sums[of_tile as usize], means[of_tile as usize]);
        #[unroll]
        for column in 0..PER_UNIT {
            let place = comptime!((row * PER_UNIT + column) as usize);
            let key = first_key + across + column * SIDE;
            let score = capped(weights[place], sizes.cap, has_cap);
            let is_seen = query < sizes.queries && sees(query, key, sizes);
            let weight = select(is_seen, (score - log_sum).exp(), 0.0f32);
            weights[place] = weight;
            let of_score = weight * (gradients[place] - mean);
            if comptime!(has_cap) {
                let share = score / sizes.cap;
                gradients[place] = of_score * (1.0f32 - share * share);
            } else {
                gradients[place] = of_score;
            }
        }
    }
}
