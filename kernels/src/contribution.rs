//! A contribution: what a peer sends of its pseudo-gradient, decoded but still sparse.

use std::fmt;

use rayon::prelude::*;

use crate::codec::body::{self, Planes};
use crate::grid::{Chunk, Grid};
use crate::quantise::{self, Kept, Scale};
use crate::{Compression, Error, Layout};

/// Chunks that a thread takes at a time: enough to hide what taking costs.
pub(crate) const CHUNKS_AT_A_TIME: usize = 8;

/// A decoded contribution. It takes two bytes of memory for each value kept.
///
/// It belongs to the layout and the settings it was decoded for, and is refused for others.
#[derive(Clone, PartialEq)]
pub struct Contribution {
    layout: [u8; 32],
    compression: Compression,
    planes: Planes,
    norms: Vec<f32>,
    values: usize,
}

/// Reads a contribution's body from a stranger. It never panics, and allocates only once the body
/// is as long as its scales ask for, and then what the layout asks for.
///
/// A body that is accepted is canonical: [`Contribution::encode`] returns the same bytes.
///
/// # Errors
/// [`Error::BodyTooLong`] first, where the body has more than `max_bytes` bytes;
/// [`Error::Compression`] when the settings make no sense; then whatever is wrong with the bytes:
/// [`Error::BodyTooShort`], [`Error::Scale`], [`Error::IndexOutOfRange`], [`Error::Padding`],
/// [`Error::TrailingBytes`].
pub fn decode(
    layout: &Layout,
    compression: &Compression,
    body: &[u8],
    max_bytes: usize,
) -> Result<Contribution, Error> {
    if body.len() > max_bytes {
        return Err(Error::BodyTooLong { max: max_bytes, got: body.len() });
    }
    let grid = Grid::new(layout, compression)?;
    let planes = body::decode(compression, &grid, body)?;
    Ok(Contribution::new(layout, compression, &grid, planes))
}

impl Contribution {
    fn new(layout: &Layout, compression: &Compression, grid: &Grid, planes: Planes) -> Self {
        let mut squares = vec![0u128; layout.tensors().len()];
        let mut values = 0;
        for (chunk, &scale) in grid.chunks().iter().zip(&planes.scales) {
            squares[chunk.tensor] += scale.square() * chunk.keep as u128;
            values += if scale == Scale::ZERO { 0 } else { chunk.keep };
        }
        Self {
            layout: layout.hash(),
            compression: *compression,
            planes,
            norms: squares.into_iter().map(quantise::root).collect(),
            values,
        }
    }

    /// The body's bytes, the same that it was decoded from.
    ///
    /// # Errors
    /// [`Error::ForeignContribution`] when it was decoded for another layout.
    pub fn encode(&self, layout: &Layout) -> Result<Vec<u8>, Error> {
        Ok(body::encode(&self.compression, &self.grid(layout)?, &self.planes))
    }

    /// The Euclidean norm of each tensor's values, in the layout's order.
    ///
    /// The sum of the squares is exact, so the norm is that sum rounded to f32, and its root.
    pub fn norms(&self) -> &[f32] {
        &self.norms
    }

    /// How many values it changes.
    pub fn values(&self) -> usize {
        self.values
    }

    /// The settings it was decoded for.
    pub fn compression(&self) -> &Compression {
        &self.compression
    }

    /// Adds `scale` times its values to `out`, which has one value for every parameter.
    ///
    /// # Errors
    /// [`Error::Length`] when `out` is not of this layout, [`Error::ForeignContribution`] when the
    /// contribution isn't. `out` is unchanged then.
    pub fn add_to(&self, layout: &Layout, out: &mut [f32], scale: f32) -> Result<(), Error> {
        self.add_with(layout, out, |_| scale)
    }

    /// Adds `scale` times `clip[i]` times its values to each tensor `i` of `out`: the contribution
    /// alone, as clipped among others (see [`crate::clip_factors`]).
    ///
    /// # Errors
    /// As [`Self::add_to`], and [`Error::Length`] when there is not one factor a tensor.
    pub fn add_clipped_to(&self, layout: &Layout, out: &mut [f32], scale: f32, clip: &[f32]) -> Result<(), Error> {
        let (expected, got) = (layout.tensors().len(), clip.len());
        if got != expected {
            return Err(Error::Length { what: "clip factors", expected, got });
        }
        self.add_with(layout, out, |tensor| scale * clip[tensor])
    }

    fn add_with(&self, layout: &Layout, out: &mut [f32], factor: impl Fn(usize) -> f32 + Sync) -> Result<(), Error> {
        layout.check_length("out", out)?;
        let grid = self.grid(layout)?;
        let pieces = grid.split_values_mut(out);
        let chunks = pieces.into_par_iter().zip(grid.chunks()).enumerate();
        chunks.with_min_len(CHUNKS_AT_A_TIME).for_each(|(number, (out, chunk))| {
            let (scale, kept) = self.chunk(number, chunk);
            let scale = factor(chunk.tensor) * scale;
            kept.iter().for_each(|value| out[value.index()] += value.value(scale));
        });
        Ok(())
    }

    /// How many of its values stand at places where `other` has one of the same sign, in parts per
    /// million of those of whichever changes fewer. Independent work shares some; copies share all.
    ///
    /// # Errors
    /// [`Error::ForeignContribution`] when either was decoded for another layout or settings.
    pub fn overlap_ppm(&self, layout: &Layout, other: &Self) -> Result<u32, Error> {
        if !self.is_like(other) {
            return Err(Error::ForeignContribution { position: 1 });
        }
        let grid = self.grid(layout)?;
        let chunks = grid.chunks().par_iter().enumerate().with_min_len(CHUNKS_AT_A_TIME);
        let shared: usize =
            chunks.map(|(number, chunk)| shared(self.chunk(number, chunk).1, other.chunk(number, chunk).1)).sum();
        let fewer = self.values.min(other.values).max(1);
        Ok((shared as u128 * 1_000_000 / fewer as u128) as u32)
    }

    /// Whether both were decoded for the same layout and settings.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.layout == other.layout && self.compression == other.compression
    }

    /// The grid its planes are laid out on.
    pub(crate) fn grid(&self, layout: &Layout) -> Result<Grid, Error> {
        if self.layout == layout.hash() {
            Grid::new(layout, &self.compression)
        } else {
            Err(Error::ForeignContribution { position: 0 })
        }
    }

    /// A chunk's scale and kept values: none where the scale is zero.
    pub(crate) fn chunk(&self, number: usize, chunk: &Chunk) -> (f32, &[Kept]) {
        match self.planes.scales[number] {
            Scale::ZERO => (0.0, &[]),
            scale => (scale.to_f32(), &self.planes.kept[chunk.slots()]),
        }
    }
}

impl fmt::Debug for Contribution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Contribution")
            .field("values", &self.values)
            .field("norms", &self.norms)
            .finish_non_exhaustive()
    }
}

/// How many values two chunks, both in the order of their indices, have in common.
fn shared(left: &[Kept], right: &[Kept]) -> usize {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut shared = 0;
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let order = a.index().cmp(&b.index());
        shared += usize::from(a == b);
        if order.is_le() {
            left.next();
        }
        if order.is_ge() {
            right.next();
        }
    }
    shared
}
