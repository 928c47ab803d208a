//! The outer step, tile by tile.

use rayon::prelude::*;

use super::clip::clip_factors;
use crate::codec::body::TileReader;
use crate::codec::unpack::Unpacked;
use crate::grid::{Chunk, Grid, MAX_CHUNK, Tile};
use crate::simd::{multiversion, prefetch};
use crate::state::{StateOutline, hash_values, outline, outline_of};
use crate::{Contribution, Error, Layout};

/// The divisor of a coordinate's sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The number of contributions that sent the coordinate.
    MeanOfSenders,
    /// The number of all contributions; one that did not send the coordinate counts as zero.
    MeanOfAll,
    /// The square root of the number of contributions that sent the coordinate. Where they agree,
    /// their values add up; noise grows with that root only, so it is equally large everywhere.
    /// This measured best (docs/benchmarks.md).
    #[default]
    RootOfSenders,
}

/// The outer step: `theta <- theta - alpha * A(clip_p * contribution_p)`, in place.
///
/// Pass the contributions in the decided order; the result depends on it. Coordinates that no
/// contribution sent keep their bits, and an empty list leaves all of `theta` unchanged. The result
/// is bit-identical for any number of threads.
///
/// Per coordinate, in f32: start a sum at 0. For each contribution in order, multiply its scale by
/// its clip factor, and add or subtract the product by its sign. Divide the sum by the divisor of
/// `rule`, multiply by `alpha`, and subtract the product from the weight.
///
/// # Errors
/// [`Error::Length`] if `theta` does not match the layout. [`Error::ForeignContribution`] if a
/// contribution does not, or if its settings differ from the first one's.
/// [`Error::OuterLearningRate`] if `alpha` is negative (minus zero too), infinite or NaN. `theta`
/// is unchanged then.
pub fn apply(
    layout: &Layout,
    theta: &mut [f32],
    contributions: &[Contribution],
    alpha: f32,
    rule: Rule,
) -> Result<(), Error> {
    let Some(step) = Step::new(layout, theta, contributions, alpha, rule)? else {
        return Ok(());
    };
    step.tiles(theta, |_| ());
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
    contributions: &[Contribution],
    alpha: f32,
    rule: Rule,
) -> Result<StateOutline, Error> {
    match Step::new(layout, theta, contributions, alpha, rule)? {
        Some(step) if step.grid.tiles_are_blob_chunks() => {
            Ok(outline_of(layout, &step.tiles(theta, hash_values)))
        }
        step => {
            step.inspect(|step| _ = step.tiles(theta, |_| ()));
            outline(layout, theta)
        }
    }
}

/// An outer step whose arguments have been checked.
pub(super) struct Step<'a> {
    pub(super) grid: Grid,
    pub(super) contributions: &'a [Contribution],
    pub(super) clips: Vec<Vec<f32>>,
    pub(super) alpha: f32,
    pub(super) rule: Rule,
}

impl<'a> Step<'a> {
    /// Checks the arguments. Returns `None` if there are no contributions.
    pub(super) fn new(
        layout: &Layout,
        theta: &[f32],
        contributions: &'a [Contribution],
        alpha: f32,
        rule: Rule,
    ) -> Result<Option<Self>, Error> {
        layout.check_length("theta", theta)?;
        if !alpha.is_finite() || alpha.is_sign_negative() {
            return Err(Error::OuterLearningRate);
        }
        let Some(first) = contributions.first() else {
            return Ok(None);
        };
        if let Some(position) = contributions.iter().position(|other| !other.is_like(first)) {
            return Err(Error::ForeignContribution { position });
        }
        Ok(Some(Self {
            grid: first.grid(layout)?,
            contributions,
            clips: clip_factors(contributions),
            alpha,
            rule,
        }))
    }

    /// Steps all weights tile by tile. Returns the result of `then` on each stepped tile, in order.
    pub(super) fn tiles<T: Send>(
        &self,
        theta: &mut [f32],
        then: impl Fn(&[f32]) -> T + Sync,
    ) -> Vec<T> {
        let tiles = self
            .grid
            .split_tiles_mut(theta)
            .into_par_iter()
            .zip(self.grid.tiles())
            .enumerate();
        let step = |scratch: &mut Scratch,
                    (number, (theta, tile)): (usize, (&mut [f32], &Tile))| {
            let mut readers: Vec<_> = self
                .contributions
                .iter()
                .map(|one| one.tile(number, tile))
                .collect();
            for chunk in self.grid.chunks_of(tile) {
                step_chunk(
                    self,
                    &mut readers,
                    chunk,
                    &mut theta[tile.place(chunk)],
                    scratch,
                );
            }
            then(theta)
        };
        tiles.map_init(Scratch::default, step).collect()
    }
}

/// Working memory for one chunk, reused between chunks.
pub(super) struct Scratch {
    /// The sum of each coordinate. As long as the longest chunk, so that no index of a kept value
    /// is out of bounds. Zero between chunks.
    sums: Box<[f32; MAX_CHUNK]>,
    /// The number of contributions that sent each coordinate. Zero between chunks.
    senders: Box<[u16; MAX_CHUNK]>,
    unpacked: Unpacked,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            sums: Box::new([0.0; _]),
            senders: Box::new([0; _]),
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
    for (turn, (reader, clip)) in readers.iter_mut().zip(&step.clips).enumerate() {
        (turn * blocks..(turn + 1) * blocks)
            .for_each(|block| prefetch(ahead.wrapping_add(BLOCK * block)));
        let (scale, kept) = reader.next(chunk, unpacked);
        let scale = clip[chunk.tensor] * scale;
        for value in kept {
            sums[value.index()] += value.value(scale);
            senders[value.index()] += 1;
        }
    }
    // A coordinate that nobody sent has the sum 0, and `theta - alpha * 0` is `theta` whatever its
    // sign. So only the divisor needs a branch.
    let all = step.contributions.len() as f32;
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
            Rule::MeanOfAll => step_block(step.alpha, theta, sums, senders, |_| all),
        }
        sums.fill(0.0);
        senders.fill(0);
    }
}

/// Weights stepped at a time, so that their sums are cleared while they are in the cache.
const BLOCK: usize = 64;

/// Steps some weights. `divisor` gives a sum's divisor for a number of senders.
#[inline(always)]
fn step_block(
    alpha: f32,
    theta: &mut [f32],
    sums: &[f32],
    senders: &[u16],
    divisor: impl Fn(f32) -> f32,
) {
    for ((theta, sum), &senders) in theta.iter_mut().zip(sums).zip(senders) {
        *theta -= alpha * (sum / divisor(senders.into()));
    }
}
