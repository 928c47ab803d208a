//! The outer step, tile by tile.

use rayon::prelude::*;

use super::clip::clip_factors;
use super::float_mode;
use crate::codec::body::TileReader;
use crate::codec::unpack::Unpacked;
use crate::grid::{Chunk, Grid, MAX_CHUNK, MILLION, Tile};
use crate::simd::{multiversion, prefetch};
use crate::state::{StateOutline, hash_values, outline, outline_of, to_bytes, write_bytes};
use crate::{Contribution, Error, Layout};

/// The divisor of a coordinate's sum. A contribution counts as many senders as its coefficient
/// says, and a divisor is at least 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The number of contributions that sent the coordinate.
    MeanOfSenders,
    /// The number of all contributions; one that did not send the coordinate counts as zero.
    MeanOfAll,
    /// The square root of the number of contributions that sent the coordinate. Where they agree,
    /// their values add up; noise grows with that root only, so it is equally large everywhere.
    /// This measured best, with liars among the senders and without (docs/benchmarks.md).
    #[default]
    RootOfSenders,
}

/// What an outer step applies, and how. All of it is decided, so it is equal on all replicas.
#[derive(Debug, Clone, Copy)]
pub struct OuterStep<'a> {
    /// The decided contributions, in the decided order; the result depends on it.
    pub contributions: &'a [Contribution],
    /// How much each contribution counts, in parts per million, at most 1,000,000. One with 0 has
    /// no influence, not even as a sender or on the median norm.
    pub coefficients_ppm: &'a [u32],
    /// The outer learning rate α.
    pub alpha: f32,
    /// The divisor of each coordinate's sum.
    pub rule: Rule,
}

/// The outer step: `theta <- theta - alpha * A(coefficient_p * clip_p * contribution_p)`, in place.
///
/// Coordinates that no contribution sent keep their bits, and a step without contributions leaves
/// all of `theta` unchanged. The result is bit-identical for any number of threads.
///
/// In f32: a contribution's coefficient is its number of ppm divided by 1,000,000, and its factor
/// for a tensor is its clip factor times its coefficient. Per coordinate, start a sum and a number
/// of senders at 0. For each contribution in order that sent it, multiply its scale by its factor,
/// add or subtract the product by its sign, and add its coefficient to the number of senders.
/// Divide the sum by the divisor of `rule`, multiply by `alpha`, and subtract the product from the
/// weight.
///
/// # Errors
/// [`Error::FloatMode`] if a thread does not round as IEEE 754 says; `theta` is spoilt then.
/// [`Error::Length`] if `theta` does not match the layout, or unless there is one coefficient per
/// contribution. [`Error::Coefficient`] if one is above 1,000,000. [`Error::ForeignContribution`]
/// if a contribution does not match the layout, or if its settings differ from the first one's.
/// [`Error::OuterLearningRate`] if `alpha` is negative (minus zero too), infinite or NaN. `theta`
/// is unchanged then.
pub fn apply(layout: &Layout, theta: &mut [f32], step: &OuterStep<'_>) -> Result<(), Error> {
    let Some(step) = Step::new(layout, theta, step)? else {
        return Ok(());
    };
    step.tiles(theta, |_| ())?;
    Ok(())
}

/// Does what [`apply`] does, and returns the outline of the new `theta` (see [`crate::state`]).
/// Each tile is hashed while it is in the cache.
///
/// # Errors
/// As [`apply`].
pub fn apply_and_outline(
    layout: &Layout,
    theta: &mut [f32],
    step: &OuterStep<'_>,
) -> Result<StateOutline, Error> {
    match Step::new(layout, theta, step)? {
        Some(step) if step.grid.tiles_are_blob_chunks() => {
            Ok(outline_of(layout, &step.tiles(theta, hash_values)?))
        }
        step => {
            if let Some(step) = step {
                step.tiles(theta, |_| ())?;
            }
            outline(layout, theta)
        }
    }
}

/// Does what [`apply_and_outline`] does, and leaves `theta` as it is. It passes the new weights to
/// `write` as little-endian bytes, a tile at a time, each with its place among all bytes. Threads
/// call `write` at once and in any order, and need memory for two tiles each: for weights that are
/// larger than the memory to spare.
///
/// # Errors
/// As [`apply`], and what `write` returns.
pub fn apply_in_parts<E: From<Error> + Send>(
    layout: &Layout,
    theta: &[f32],
    step: &OuterStep<'_>,
    write: impl Fn(u64, &[u8]) -> Result<(), E> + Sync,
) -> Result<StateOutline, E> {
    let write_all = |theta: &[f32]| {
        let mut parts = (0..).step_by(PART_VALUES).zip(theta.chunks(PART_VALUES));
        parts.try_for_each(|(start, part)| write(place(start), &to_bytes(part)))
    };
    match Step::new(layout, theta, step)? {
        Some(step) if step.grid.tiles_are_blob_chunks() => {
            Ok(outline_of(layout, &step.tiles_apart(theta, &write)?))
        }
        Some(step) => {
            let mut stepped = theta.to_vec();
            step.tiles(&mut stepped, |_| ())?;
            write_all(&stepped)?;
            Ok(outline(layout, &stepped)?)
        }
        None => {
            write_all(theta)?;
            Ok(outline(layout, theta)?)
        }
    }
}

/// Values passed on at once where tiles have an unusual length.
const PART_VALUES: usize = 1 << 18;

/// The place of a value's first byte.
const fn place(value: usize) -> u64 {
    (value * size_of::<f32>()) as u64
}

/// An outer step whose arguments have been checked.
pub(super) struct Step<'a> {
    pub(super) grid: Grid,
    pub(super) parts: Vec<Part<'a>>,
    pub(super) alpha: f32,
    pub(super) rule: Rule,
    /// The sum of all coefficients, at least 1.
    pub(super) all: f32,
}

/// A contribution that counts, and how much.
pub(super) struct Part<'a> {
    contribution: &'a Contribution,
    coefficient: f32,
    /// The clip factor times the coefficient, for each tensor.
    factors: Vec<f32>,
}

impl<'a> Step<'a> {
    /// Checks the arguments. Returns `None` if no contribution counts.
    pub(super) fn new(
        layout: &Layout,
        theta: &[f32],
        step: &OuterStep<'a>,
    ) -> Result<Option<Self>, Error> {
        layout.check_length("theta", theta)?;
        if !step.alpha.is_finite() || step.alpha.is_sign_negative() {
            return Err(Error::OuterLearningRate);
        }
        check_coefficients(step)?;
        let Some(first) = step.contributions.first() else {
            return Ok(None);
        };
        let is_foreign = |other: &Contribution| !other.is_like(first);
        if let Some(position) = step.contributions.iter().position(is_foreign) {
            return Err(Error::ForeignContribution { position });
        }
        let grid = first.grid(layout)?;
        Ok(Some(Self::on(grid, step)).filter(|step| !step.parts.is_empty()))
    }

    /// The step on a grid; its arguments have been checked.
    pub(super) fn on(grid: Grid, step: &OuterStep<'a>) -> Self {
        let clips = clip_factors(step.contributions, step.coefficients_ppm);
        let all = step.contributions.iter().zip(step.coefficients_ppm);
        let parts: Vec<_> = all
            .zip(clips)
            .filter(|((_, ppm), _)| **ppm > 0)
            .map(|((contribution, &ppm), clips)| {
                let coefficient = ppm as f32 / MILLION as f32;
                let factors = clips.into_iter().map(|clip| clip * coefficient).collect();
                Part {
                    contribution,
                    coefficient,
                    factors,
                }
            })
            .collect();
        let all = parts.iter().fold(0.0, |sum, part| sum + part.coefficient);
        Self {
            grid,
            parts,
            alpha: step.alpha,
            rule: step.rule,
            all: f32::max(all, 1.0),
        }
    }

    /// A reader for each contribution that counts.
    pub(super) fn readers(&self, number: usize, tile: &Tile) -> Vec<TileReader<'a>> {
        let parts = self.parts.iter();
        parts
            .map(|part| part.contribution.tile(number, tile))
            .collect()
    }

    /// Steps all weights tile by tile. Returns the result of `then` on each stepped tile, in order.
    ///
    /// # Errors
    /// [`Error::FloatMode`].
    pub(super) fn tiles<T: Send>(
        &self,
        theta: &mut [f32],
        then: impl Fn(&[f32]) -> T + Sync,
    ) -> Result<Vec<T>, Error> {
        let tiles = self.grid.split_tiles_mut(theta).into_par_iter().enumerate();
        let step = |scratch: &mut Scratch, (number, theta): (usize, &mut [f32])| {
            self.tile(number, theta, scratch)?;
            Ok(then(theta))
        };
        tiles.map_init(Scratch::default, step).collect()
    }

    /// Steps a copy of each tile, and passes its bytes to `write`. Returns the hashes of the
    /// stepped tiles, in order.
    fn tiles_apart<E: From<Error> + Send>(
        &self,
        theta: &[f32],
        write: &(impl Fn(u64, &[u8]) -> Result<(), E> + Sync),
    ) -> Result<Vec<[u8; 32]>, E> {
        let tiles = self.grid.tiles().par_iter().enumerate();
        let step = |copy: &mut TileCopy, (number, tile): (usize, &Tile)| {
            let bytes = copy.step(self, number, &theta[tile.values.clone()])?;
            write(place(tile.values.start), bytes)?;
            Ok(*blake3::hash(bytes).as_bytes())
        };
        tiles.map_init(TileCopy::default, step).collect()
    }

    /// Steps the weights of one tile.
    fn tile(&self, number: usize, theta: &mut [f32], scratch: &mut Scratch) -> Result<(), Error> {
        let tile = &self.grid.tiles()[number];
        // The mode belongs to a thread, and a library may change it at any time.
        float_mode::check()?;
        let mut readers = self.readers(number, tile);
        for chunk in self.grid.chunks_of(tile) {
            let theta = &mut theta[tile.place(chunk)];
            step_chunk(self, &mut readers, chunk, theta, scratch);
        }
        Ok(())
    }
}

/// Working memory for a copy of one tile, reused between tiles.
#[derive(Default)]
struct TileCopy {
    values: Vec<f32>,
    bytes: Vec<u8>,
    scratch: Scratch,
}

impl TileCopy {
    /// Steps a copy of a tile. Returns it as bytes.
    fn step(&mut self, step: &Step<'_>, number: usize, theta: &[f32]) -> Result<&[u8], Error> {
        self.values.clear();
        self.values.extend_from_slice(theta);
        step.tile(number, &mut self.values, &mut self.scratch)?;
        self.bytes.resize(size_of_val(theta), 0);
        write_bytes(&self.values, &mut self.bytes);
        Ok(&self.bytes)
    }
}

/// Working memory for one chunk, reused between chunks.
pub(super) struct Scratch {
    /// The sum of each coordinate. As long as the longest chunk, so that no index of a kept value
    /// is out of bounds. Zero between chunks.
    sums: Box<[f32; MAX_CHUNK]>,
    /// The sum of the coefficients of those that sent each coordinate. Zero between chunks.
    senders: Box<[f32; MAX_CHUNK]>,
    unpacked: Unpacked,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            sums: Box::new([0.0; _]),
            senders: Box::new([0.0; _]),
            unpacked: Unpacked::default(),
        }
    }
}

multiversion! {
    /// Steps a chunk's weights by the next chunk of every contribution.
    pub(super) fn step_chunk(
        step: &Step<'_>,
        readers: &mut [TileReader<'_>],
        chunk: &Chunk,
        theta: &mut [f32],
        scratch: &mut Scratch,
    ) -> () = add_and_step
}

#[inline(always)]
pub(super) fn add_and_step(
    step: &Step<'_>,
    readers: &mut [TileReader<'_>],
    chunk: &Chunk,
    theta: &mut [f32],
    scratch: &mut Scratch,
) {
    let Scratch {
        sums,
        senders,
        unpacked,
    } = scratch;
    // The next weights follow these in memory. Fetch them into the cache meanwhile.
    let ahead = theta.as_ptr().wrapping_add(theta.len());
    let blocks = theta.len().div_ceil(readers.len() * BLOCK);
    for (turn, (reader, part)) in readers.iter_mut().zip(&step.parts).enumerate() {
        (turn * blocks..(turn + 1) * blocks)
            .for_each(|block| prefetch(ahead.wrapping_add(BLOCK * block)));
        let (scale, kept) = reader.next(chunk, unpacked);
        let scale = part.factors[chunk.tensor] * scale;
        for value in kept {
            sums[value.index()] += value.value(scale);
            senders[value.index()] += part.coefficient;
        }
    }
    // A coordinate that nobody sent has the sum 0, and `theta - alpha * 0` is `theta` whatever its
    // sign. So only the divisor needs a branch.
    let blocks = theta
        .chunks_mut(BLOCK)
        .zip(sums.chunks_mut(BLOCK))
        .zip(senders.chunks_mut(BLOCK));
    for ((theta, sums), senders) in blocks {
        match step.rule {
            Rule::MeanOfSenders => {
                step_block(step.alpha, theta, sums, senders, |count| count.max(1.0))
            }
            Rule::RootOfSenders => step_block(step.alpha, theta, sums, senders, |count| {
                count.max(1.0).sqrt()
            }),
            Rule::MeanOfAll => step_block(step.alpha, theta, sums, senders, |_| step.all),
        }
        sums.fill(0.0);
        senders.fill(0.0);
    }
}

/// Weights stepped at a time, so that their sums are cleared while they are in the cache.
const BLOCK: usize = 64;

/// Checks that every contribution has a coefficient, and that none is above 1.
fn check_coefficients(step: &OuterStep<'_>) -> Result<(), Error> {
    let (expected, got) = (step.contributions.len(), step.coefficients_ppm.len());
    if got != expected {
        let what = "the list of coefficients";
        return Err(Error::Length {
            what,
            expected,
            got,
        });
    }
    let is_above_one = |ppm: &u32| *ppm > MILLION;
    match step.coefficients_ppm.iter().position(is_above_one) {
        Some(position) => Err(Error::Coefficient { position }),
        None => Ok(()),
    }
}

/// Steps some weights. `divisor` gives a sum's divisor for a number of senders.
#[inline(always)]
fn step_block(
    alpha: f32,
    theta: &mut [f32],
    sums: &[f32],
    senders: &[f32],
    divisor: impl Fn(f32) -> f32,
) {
    for ((theta, sum), &senders) in theta.iter_mut().zip(sums).zip(senders) {
        *theta -= alpha * (sum / divisor(senders));
    }
}
