//! Tiles of scores in a cube's shared memory and registers, and their products with rows of
//! queries, keys, values and gradients.
//!
//! A cube of 16 × 16 units holds a tile of 64 × 64 numbers. The unit in row r and column c of that
//! square has the numbers in the tile's rows r, r + 16, … and columns c, c + 16, …, so that
//! neighbours read neighbouring words of shared memory.

use cubecl::prelude::*;

use crate::gpu::training::launch::UNITS;

/// Queries of a tile, and keys.
pub(super) const TILE: u32 = 64;
/// Units along each side of a tile.
pub(super) const SIDE: u32 = 16;
/// Rows of a tile in which a unit has numbers, and columns.
pub(super) const PER_UNIT: u32 = TILE / SIDE;
/// Numbers of a tile that a unit has.
pub(super) const HELD: u32 = PER_UNIT * PER_UNIT;
/// Components, or rows, that a cube copies to shared memory at a time.
const SLICE: u32 = 16;
/// Words from one row of shared memory to the next. The odd word spreads a column over all banks.
pub(super) const STRIDE: u32 = TILE + 1;
/// Words of the copies of two slices.
pub(super) const STAGED: u32 = 2 * SLICE * STRIDE;
/// Units that share a row of a tile when they reduce it.
pub(super) const PER_ROW: u32 = UNITS / TILE;

/// The widest head: a slice of its rows fits where two slices of components do.
pub(super) const MOST_WIDTH: u32 = 128;
const _: () = assert!(SLICE * MOST_WIDTH <= STAGED);
const _: () = assert!(SIDE * SIDE == UNITS);

/// Words of shared memory of a kernel.
pub(super) const SHARED_WORDS: u32 = TILE * STRIDE + STAGED + 2 * UNITS + 2 * TILE;

/// Rows of a matrix in device memory, for a tile.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Rows {
    /// The place of the first row's first value.
    pub first: u32,
    /// How many there are; others are zero.
    pub count: u32,
}

/// Columns of the output in which a unit has numbers.
pub(super) const fn columns(width: u32) -> u32 {
    width.div_ceil(SIDE)
}

/// Sets `products` to the tile's products of each row of `left` with each row of `right`.
#[cube]
pub(super) fn multiply(
    products: &mut Array<f32>,
    left: &[f32],
    left_rows: &Rows,
    right: &[f32],
    right_rows: &Rows,
    stage: &mut Shared<[f32]>,
    #[comptime] width: u32,
) {
    let (down, across) = (UNIT_POS / SIDE, UNIT_POS % SIDE);
    #[unroll]
    for place in 0..HELD {
        products[place as usize] = 0.0f32;
    }
    for slice in 0..comptime!(width.div_ceil(SLICE)) {
        sync_cube();
        stage_components(left, left_rows, slice * SLICE, stage, 0u32, width);
        stage_components(
            right,
            right_rows,
            slice * SLICE,
            stage,
            SLICE * STRIDE,
            width,
        );
        sync_cube();
        for component in 0..SLICE {
            let lefts = component * STRIDE + down;
            let rights = (SLICE + component) * STRIDE + across;
            let mut of_columns = Array::<f32>::new(comptime!(PER_UNIT as usize));
            #[unroll]
            for column in 0..PER_UNIT {
                of_columns[column as usize] = stage[(rights + column * SIDE) as usize];
            }
            #[unroll]
            for row in 0..PER_UNIT {
                let of_row = stage[(lefts + row * SIDE) as usize];
                #[unroll]
                for column in 0..PER_UNIT {
                    let place = comptime!((row * PER_UNIT + column) as usize);
                    products[place] += of_row * of_columns[column as usize];
                }
            }
        }
    }
}

/// Copies a slice of the components of all rows of a tile, components first.
#[cube]
fn stage_components(
    matrix: &[f32],
    rows: &Rows,
    first: u32,
    stage: &mut Shared<[f32]>,
    to: u32,
    #[comptime] width: u32,
) {
    #[unroll]
    for part in 0..comptime!(TILE * SLICE / UNITS) {
        let place = UNIT_POS + part * UNITS;
        let (row, component) = (place / SLICE, place % SLICE);
        let mut value = 0.0f32;
        if row < rows.count && first + component < width {
            value = matrix[(rows.first + row * width + first + component) as usize];
        }
        stage[(to + component * STRIDE + row) as usize] = value;
    }
}

/// Adds to `sums`, `[rows of the tile, width]`, the rows of a matrix, weighted by a tile: by its
/// rows, or by its columns if it is `turned`.
#[cube]
pub(super) fn add_weighted(
    sums: &mut Array<f32>,
    tile: &Shared<[f32]>,
    matrix: &[f32],
    rows: &Rows,
    stage: &mut Shared<[f32]>,
    #[comptime] width: u32,
    #[comptime] turned: bool,
) {
    let (down, across) = (UNIT_POS / SIDE, UNIT_POS % SIDE);
    let columns = comptime!(columns(width));
    let line = comptime!(columns * SIDE);
    for slice in 0..comptime!(TILE / SLICE) {
        sync_cube();
        #[unroll]
        for part in 0..columns {
            let place = UNIT_POS + part * UNITS;
            let (row, component) = (slice * SLICE + place / line, place % line);
            let mut value = 0.0f32;
            if row < rows.count && component < width {
                value = matrix[(rows.first + row * width + component) as usize];
            }
            stage[place as usize] = value;
        }
        sync_cube();
        for of_slice in 0..SLICE {
            let weighted = slice * SLICE + of_slice;
            let mut of_columns = Array::<f32>::new(comptime!(columns as usize));
            #[unroll]
            for column in 0..columns {
                of_columns[column as usize] =
                    stage[(of_slice * line + across + column * SIDE) as usize];
            }
            #[unroll]
            for row in 0..PER_UNIT {
                let own = down + row * SIDE;
                let place = if comptime!(turned) {
                    weighted * STRIDE + own
                } else {
                    own * STRIDE + weighted
                };
                let weight = tile[place as usize];
                #[unroll]
                for column in 0..columns {
                    let place = comptime!((row * columns + column) as usize);
                    sums[place] += weight * of_columns[column as usize];
                }
            }
        }
    }
}

/// Writes this unit's numbers to the tile.
#[cube]
pub(super) fn store_tile(numbers: &Array<f32>, tile: &mut Shared<[f32]>) {
    let (down, across) = (UNIT_POS / SIDE, UNIT_POS % SIDE);
    #[unroll]
    for row in 0..PER_UNIT {
        #[unroll]
        for column in 0..PER_UNIT {
            let place = (down + row * SIDE) * STRIDE + across + column * SIDE;
            tile[place as usize] = numbers[comptime!((row * PER_UNIT + column) as usize)];
        }
    }
}

/// Multiplies this unit's sums by a factor for each row of the tile.
#[cube]
pub(super) fn scale_rows(sums: &mut Array<f32>, factors: &Shared<[f32]>, #[comptime] width: u32) {
    let down = UNIT_POS / SIDE;
    let columns = comptime!(columns(width));
    #[unroll]
    for row in 0..PER_UNIT {
        let factor = factors[(down + row * SIDE) as usize];
        #[unroll]
        for column in 0..columns {
            sums[comptime!((row * columns + column) as usize)] *= factor;
        }
    }
}

/// Writes this unit's sums to the rows of a matrix.
#[cube]
pub(super) fn write_rows(
    sums: &Array<f32>,
    matrix: &mut [f32],
    rows: &Rows,
    #[comptime] width: u32,
) {
    let (down, across) = (UNIT_POS / SIDE, UNIT_POS % SIDE);
    let columns = comptime!(columns(width));
    #[unroll]
    for row in 0..PER_UNIT {
        let own = down + row * SIDE;
        #[unroll]
        for column in 0..columns {
            let component = across + column * SIDE;
            if own < rows.count && component < width {
                let place = rows.first + own * width + component;
                matrix[place as usize] = sums[comptime!((row * columns + column) as usize)];
            }
        }
    }
}
