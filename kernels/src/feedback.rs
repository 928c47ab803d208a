//! Error feedback: what could not be sent this round is sent later.
//!
//! With `base` the round's weights, `local` those after the inner steps, and β the decay:
//!
//! ```text
//! v     = β e + (base - local)      what there is to send
//! sent  = Q(top-k(v))               what fits
//! e    <- v - sent                  what is left
//! ```
//!
//! This is SparseLoCo (arXiv 2508.15706, algorithm 1), with a sign and one scale a chunk for Q. Plain
//! error feedback (β = 1; arXiv 1901.09847) never loses anything; β below 1 forgets what has been
//! waiting since weights that are long gone.
//!
//! Nothing is lost beyond the decay: where nothing was sent, `e = v` to the bit; where something was,
//! `e` is `v - sent` rounded once, and exact whenever `v` is between half and twice what was sent
//! (Sterbenz's lemma).

use rayon::prelude::*;

use crate::codec::body::{self, Planes};
use crate::contribution::CHUNKS_AT_A_TIME;
use crate::grid::{Chunk, Grid};
use crate::quantise::{Kept, Scale};
use crate::{Compression, Contribution, Error, Layout, topk};

/// Compresses a round's pseudo-gradient to the body of a contribution.
///
/// `base` are the weights at the round's start, `local` those after the inner steps, `error` the
/// error feedback (zeros for a new peer), each with one value for every parameter. `error` is brought
/// up to date as if the contribution will be applied; if it isn't chosen, give it back with
/// [`add_back`]. The bytes are the same for any number of threads.
///
/// # Errors
/// [`Error::Length`], [`Error::Compression`], and [`Error::NotFinite`], which names the tensor, where
/// `local`, `base`, `error` or what there is to send has a NaN or an infinity. `error` is then as it
/// was.
pub fn compress(
    layout: &Layout,
    compression: &Compression,
    base: &[f32],
    local: &[f32],
    error: &mut [f32],
) -> Result<Vec<u8>, Error> {
    layout.check_length("base", base)?;
    layout.check_length("local", local)?;
    layout.check_length("error", error)?;
    let grid = Grid::new(layout, compression)?;
    let decay = compression.decay();
    check_finite(layout, &grid, &Sources { decay, base, local, error })?;

    let mut planes = Planes::zero(&grid);
    let kept = grid.split_kept_mut(&mut planes.kept);
    let error = grid.split_values_mut(error);
    let outputs = (&mut planes.scales, kept, error).into_par_iter().zip(grid.chunks());
    outputs.with_min_len(CHUNKS_AT_A_TIME).for_each_init(Scratch::default, |scratch, ((scale, kept, error), chunk)| {
        accumulate(decay, &base[chunk.range()], &local[chunk.range()], error);
        *scale = send(error, kept, scratch);
    });
    Ok(body::encode(compression, &grid, &planes))
}

/// Gives back to the error feedback what a contribution carried that was not chosen:
/// `error <- error + decoded`.
///
/// # Errors
/// [`Error::Length`] when `error` is not of this layout, [`Error::ForeignContribution`] when the
/// contribution isn't. `error` is unchanged then.
pub fn add_back(layout: &Layout, contribution: &Contribution, error: &mut [f32]) -> Result<(), Error> {
    contribution.add_to(layout, error, 1.0)
}

/// Working memory, kept between chunks.
#[derive(Default)]
struct Scratch {
    topk: topk::Scratch,
    indices: Vec<u16>,
}

/// `error <- decay * error + (base - local)`.
fn accumulate(decay: f32, base: &[f32], local: &[f32], error: &mut [f32]) {
    for ((error, base), local) in error.iter_mut().zip(base).zip(local) {
        *error = to_send(decay, *base, *local, *error);
    }
}

#[inline]
fn to_send(decay: f32, base: f32, local: f32, error: f32) -> f32 {
    decay * error + (base - local)
}

/// Writes a chunk's largest values to `kept`, takes what they decode to out of `values`, and returns
/// the scale. Where the scale rounds to zero, nothing is kept and nothing taken.
fn send(values: &mut [f32], kept: &mut [Kept], scratch: &mut Scratch) -> Scale {
    let indices = &mut scratch.indices;
    indices.resize(kept.len(), 0);
    topk::select(values, &mut scratch.topk, indices);
    let scale = Scale::of(indices.iter().map(|&index| values[usize::from(index)].abs()));
    if scale == Scale::ZERO {
        return scale;
    }
    for (kept, &index) in kept.iter_mut().zip(indices.iter()) {
        let value = &mut values[usize::from(index)];
        // Not the sign bit: minus zero is no negative value.
        *kept = Kept::new(index, *value < 0.0);
        *value -= kept.value(scale.to_f32());
    }
    scale
}

/// What a pseudo-gradient is made of.
struct Sources<'a> {
    decay: f32,
    base: &'a [f32],
    local: &'a [f32],
    error: &'a [f32],
}

/// Checks everything that [`compress`] is about to send, before it changes anything.
fn check_finite(layout: &Layout, grid: &Grid, sources: &Sources<'_>) -> Result<(), Error> {
    let chunks = grid.chunks().par_iter().with_min_len(CHUNKS_AT_A_TIME);
    match chunks.find_first(|chunk| !sources.are_finite(chunk)) {
        None => Ok(()),
        Some(chunk) => Err(sources.diagnose(layout, chunk)),
    }
}

impl Sources<'_> {
    /// Whether all that is to be sent of a chunk is finite, for which all its sources must be.
    fn are_finite(&self, chunk: &Chunk) -> bool {
        let (base, local) = (&self.base[chunk.range()], &self.local[chunk.range()]);
        let sources = self.error[chunk.range()].iter().zip(base).zip(local);
        // No early way out: a loop without branches runs at the speed of memory.
        sources.fold(true, |finite, ((error, base), local)| {
            finite & to_send(self.decay, *base, *local, *error).is_finite()
        })
    }

    /// Says which source of a chunk is to blame.
    fn diagnose(&self, layout: &Layout, chunk: &Chunk) -> Error {
        let found = chunk.range().find_map(|place| {
            let (base, local, error) = (self.base[place], self.local[place], self.error[place]);
            let candidates = [
                ("the local weight", local),
                ("the base weight", base),
                ("the error feedback", error),
                ("the pseudo-gradient", to_send(self.decay, base, local, error)),
            ];
            let guilty = candidates.into_iter().find(|(_, value)| !value.is_finite());
            guilty.map(|(what, _)| (what, place))
        });
        let (what, place) = found.unwrap_or(("the pseudo-gradient", chunk.start));
        let tensor = layout.tensors()[chunk.tensor].name.clone();
        Error::NotFinite { what, tensor, index: place - layout.range(chunk.tensor).start }
    }
}
