//! The outer step, tile by tile.

use std::ops::Range;

use rayon::prelude::*;

use super::clip::clip_factors;
use super::float_mode;
use crate::codec::body::TileReader;
use crate::codec::unpack::Unpacked;
use crate::grid::{Chunk, Grid, MAX_CHUNK, MILLION, Tile};
use crate::simd::{multiversion, prefetch};
use crate::state::{StateOutline, hash_values, outline, outline_of};
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

/// Tiles stepped before their weights are handed over: 64 MiB of them.
const TILES_AT_A_TIME: usize = if cfg!(test) { 1 } else { 64 };

/// Does what [`apply_and_outline`] does, and leaves `theta` as it is: it passes the new weights to
/// `write`, from the first to the last, a few at a time. For weights that are larger than the
/// memory to spare.
///
/// # Errors
/// As [`apply`], and what `write` returns.
pub fn apply_in_parts<E: From<Error>>(
    layout: &Layout,
    theta: &[f32],
    step: &OuterStep<'_>,
    mut write: impl FnMut(&[f32]) -> Result<(), E>,
) -> Result<StateOutline, E> {
    let step = match Step::new(layout, theta, step)? {
        Some(step) if step.grid.tiles_are_blob_chunks() => step,
        // Chunks of an unusual length, or nothing to apply.
        _ => {
            let mut stepped = theta.to_vec();
            let outline = apply_and_outline(layout, &mut stepped, step)?;
            write(&stepped)?;
            return Ok(outline);
        }
    };
    let (mut hashes, mut part) = (Vec::new(), Vec::new());
    let tiles = 0..step.grid.tiles().len();
    for first in tiles.clone().step_by(TILES_AT_A_TIME) {
        let some = first..tiles.end.min(first + TILES_AT_A_TIME);
        let values = &step.grid.tiles()[some.clone()];
        let values = values.iter().flat_map(|tile| &theta[tile.values.clone()]);
        part.clear();
        part.extend(values);
        hashes.extend(step.some_tiles(some, &mut part, hash_values)?);
        write(&part)?;
    }
    Ok(outline_of(layout, &hashes))
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
        self.some_tiles(0..self.grid.tiles().len(), theta, then)
    }

    /// The same for the tiles with these numbers; `theta` has their values alone.
    fn some_tiles<T: Send>(
        &self,
        numbers: Range<usize>,
        theta: &mut [f32],
        then: impl Fn(&[f32]) -> T + Sync,
    ) -> Result<Vec<T>, Error> {
        let slices = self.grid.split_tiles_mut(numbers.clone(), theta);
        let tiles = slices.into_par_iter().zip(numbers);
        let step = |scratch: &mut Scratch, (theta, number): (&mut [f32], usize)| {
            let tile = &self.grid.tiles()[number];
            // The mode belongs to a thread, and a library may change it at any time.
            float_mode::check()?;
            let mut readers = self.readers(number, tile);
            for chunk in self.grid.chunks_of(tile) {
                step_chunk(
                    self,
                    &mut readers,
                    chunk,
                    &mut theta[tile.place(chunk)],
                    scratch,
                );
            }
            Ok(then(theta))
        };
        tiles.map_init(Scratch::default, step).collect()
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
