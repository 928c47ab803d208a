//! A decoded contribution: the part of a pseudo-gradient that a peer sent, still sparse.

use std::fmt;

use rayon::prelude::*;

use crate::codec::body::{self, Body, TileReader};
use crate::codec::unpack::Unpacked;
use crate::grid::{Grid, Tile};
use crate::quantise::{self, Kept, Scale};
use crate::{Compression, Error, Layout};

/// A contribution whose body has been checked. It takes little more memory than the body, because
/// values are decoded one chunk at a time where they are used.
///
/// It belongs to the layout and the settings it was decoded for; with others it is refused.
#[derive(Clone, PartialEq)]
pub struct Contribution {
    layout: [u8; 32],
    compression: Compression,
    body: Body,
    norms: Vec<f32>,
    values: usize,
}

/// Decodes the body of a contribution from a stranger. Never panics. The layout and the body's
/// length bound what it allocates, and `max_bytes` bounds that length.
///
/// An accepted body is canonical: no other bytes decode to the same contribution.
///
/// # Errors
/// [`Error::BodyTooLong`] if the body has more than `max_bytes` bytes, which is checked first.
/// [`Error::Compression`] if the settings are out of range. For invalid bytes
/// [`Error::BodyTooShort`], [`Error::Scale`], [`Error::IndexOutOfRange`], [`Error::Padding`] or
/// [`Error::TrailingBytes`].
pub fn decode(
    layout: &Layout,
    compression: &Compression,
    body: &[u8],
    max_bytes: usize,
) -> Result<Contribution, Error> {
    if body.len() > max_bytes {
        return Err(Error::BodyTooLong {
            max: max_bytes,
            got: body.len(),
        });
    }
    let grid = Grid::new(layout, compression)?;
    let body = body::decode(compression, &grid, body)?;
    Ok(Contribution::new(layout, compression, &grid, body))
}

impl Contribution {
    /// Wraps a body that was decoded on this grid.
    pub(crate) fn new(layout: &Layout, compression: &Compression, grid: &Grid, body: Body) -> Self {
        let mut squares = vec![0u128; layout.tensors().len()];
        let mut values = 0;
        for (chunk, &scale) in grid.chunks().iter().zip(body.scales()) {
            squares[chunk.tensor] += scale.square() * chunk.keep as u128;
            values += if scale == Scale::ZERO { 0 } else { chunk.keep };
        }
        Self {
            layout: layout.hash(),
            compression: *compression,
            body,
            norms: squares.into_iter().map(quantise::root).collect(),
            values,
        }
    }

    /// The body it was decoded from.
    pub fn body(&self) -> &[u8] {
        self.body.bytes()
    }

    /// The Euclidean norm of each tensor's values, in the layout's order.
    ///
    /// The sum of squares is exact; it is rounded to f32 before the square root is taken.
    pub fn norms(&self) -> &[f32] {
        &self.norms
    }

    /// The number of values it changes.
    pub fn values(&self) -> usize {
        self.values
    }

    /// The settings it was decoded for.
    pub fn compression(&self) -> &Compression {
        &self.compression
    }

    /// Adds `scale` times its values to `out`, which has one value per parameter.
    ///
    /// # Errors
    /// [`Error::Length`] if `out` does not match the layout, [`Error::ForeignContribution`] if the
    /// contribution does not. `out` is unchanged then.
    pub fn add_to(&self, layout: &Layout, out: &mut [f32], scale: f32) -> Result<(), Error> {
        self.add_with(layout, out, |_| scale)
    }

    /// Adds `scale` times `clip[i]` times its values to each tensor `i` of `out`: this contribution
    /// alone, clipped as it would be among others (see [`crate::clip_factors`]).
    ///
    /// # Errors
    /// As [`Self::add_to`], and [`Error::Length`] unless there is one factor per tensor.
    pub fn add_clipped_to(
        &self,
        layout: &Layout,
        out: &mut [f32],
        scale: f32,
        clip: &[f32],
    ) -> Result<(), Error> {
        let (expected, got) = (layout.tensors().len(), clip.len());
        if got != expected {
            return Err(Error::Length {
                what: "clip factors",
                expected,
                got,
            });
        }
        self.add_with(layout, out, |tensor| scale * clip[tensor])
    }

    fn add_with(
        &self,
        layout: &Layout,
        out: &mut [f32],
        factor: impl Fn(usize) -> f32 + Sync,
    ) -> Result<(), Error> {
        layout.check_length("out", out)?;
        let grid = self.grid(layout)?;
        let pieces = grid.split_tiles_mut(out);
        let tiles = pieces.into_par_iter().zip(grid.tiles()).enumerate();
        tiles.for_each_init(Unpacked::default, |unpacked, (number, (out, tile))| {
            let mut reader = self.body.tile(number, tile);
            for chunk in grid.chunks_of(tile) {
                let out = &mut out[tile.place(chunk)];
                let (scale, kept) = reader.next(chunk, unpacked);
                let scale = factor(chunk.tensor) * scale;
                kept.iter()
                    .for_each(|value| out[value.index()] += value.value(scale));
            }
        });
        Ok(())
    }

    /// The number of values that `other` has at the same position with the same sign, in parts per
    /// million of the values of whichever has fewer. Independent contributions share some, copies
    /// share all.
    ///
    /// # Errors
    /// [`Error::ForeignContribution`] if either was decoded for another layout or other settings.
    pub fn overlap_ppm(&self, layout: &Layout, other: &Self) -> Result<u32, Error> {
        if !self.is_like(other) {
            return Err(Error::ForeignContribution { position: 1 });
        }
        let grid = self.grid(layout)?;
        let buffers = || (Unpacked::default(), Unpacked::default());
        let tiles = grid.tiles().par_iter().enumerate().map_init(
            buffers,
            |(mine, theirs), (number, tile)| {
                let (mut left, mut right) =
                    (self.body.tile(number, tile), other.body.tile(number, tile));
                grid.chunks_of(tile)
                    .iter()
                    .map(|chunk| shared(left.next(chunk, mine).1, right.next(chunk, theirs).1))
                    .sum::<usize>()
            },
        );
        let shared: usize = tiles.sum();
        let fewer = self.values.min(other.values).max(1);
        Ok((shared as u128 * 1_000_000 / fewer as u128) as u32)
    }

    /// Whether both were decoded for the same layout and settings.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.layout == other.layout && self.compression == other.compression
    }

    /// The grid it was decoded on.
    pub(crate) fn grid(&self, layout: &Layout) -> Result<Grid, Error> {
        if self.layout == layout.hash() {
            Grid::new(layout, &self.compression)
        } else {
            Err(Error::ForeignContribution { position: 0 })
        }
    }

    /// A reader for one tile of the grid.
    pub(crate) fn tile(&self, number: usize, tile: &Tile) -> TileReader<'_> {
        self.body.tile(number, tile)
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

/// The number of values that two chunks have in common. Both are sorted by index.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress;
    use crate::testing::{layout, on_any_number_of_threads, settings, values};
    use proptest::prelude::*;

    fn contribution(layout: &Layout, compression: &Compression, seed: u64) -> Contribution {
        let zeros = vec![0.0; layout.parameters()];
        let body = compress(
            layout,
            compression,
            &zeros,
            &mut values(seed, layout.parameters()),
        )
        .unwrap();
        decode(layout, compression, &body, body.len()).unwrap()
    }

    fn dense(layout: &Layout, contribution: &Contribution) -> Vec<f32> {
        let mut out = vec![0.0; layout.parameters()];
        contribution.add_to(layout, &mut out, 1.0).unwrap();
        out
    }

    proptest! {
        #[test]
        fn norms_and_counts_are_those_of_the_values(
            lengths in prop::collection::vec(1usize..100, 1..4), seed: u64, keep in 1usize..=16
        ) {
            let (layout, compression) = (layout(&lengths), settings(16, keep));
            let contribution = contribution(&layout, &compression, seed);
            let dense = dense(&layout, &contribution);
            let nonzero = dense.iter().filter(|value| **value != 0.0).count();
            prop_assert_eq!(contribution.values(), nonzero);
            for (range, &norm) in layout.ranges().zip(contribution.norms()) {
                let squares: f64 = dense[range].iter().map(|&value| f64::from(value).powi(2)).sum();
                prop_assert!((f64::from(norm) - squares.sqrt()).abs() <= 1e-6 * squares.sqrt());
            }
        }
    }

    #[test]
    fn the_limit_comes_before_everything_else() {
        let refused = decode(&layout(&[8]), &settings(0, 0), &[0; 9], 8);
        assert_eq!(refused, Err(Error::BodyTooLong { max: 8, got: 9 }));
        assert!(matches!(
            decode(&layout(&[8]), &settings(0, 0), &[0; 8], 8),
            Err(Error::Compression { .. })
        ));
    }

    #[test]
    fn the_largest_scales_have_a_finite_norm() {
        let layout = layout(&[1 << 16]);
        let compression = settings(1 << 15, 1 << 15);
        let zeros = vec![0.0; layout.parameters()];
        let body = compress(
            &layout,
            &compression,
            &zeros,
            &mut vec![f32::MAX; layout.parameters()],
        )
        .unwrap();
        let contribution = decode(&layout, &compression, &body, body.len()).unwrap();
        // 2^16 values of 215.25: the root of 2^16 is 2^8.
        assert_eq!(contribution.norms(), [215.25 * 256.0]);
    }

    #[test]
    fn adding_scales_and_clips_each_tensor() {
        let layout = layout(&[100, 50]);
        let contribution = contribution(&layout, &settings(32, 4), 3);
        let alone = dense(&layout, &contribution);
        let clipped = on_any_number_of_threads(|| {
            let mut out = vec![1.0; 150];
            contribution
                .add_clipped_to(&layout, &mut out, -0.5, &[1.0, 0.25])
                .unwrap();
            out
        });
        for (place, (&clipped, &value)) in clipped.iter().zip(&alone).enumerate() {
            let factor = if place < 100 { -0.5 } else { -0.125 };
            assert_eq!(clipped, 1.0 + factor * value);
        }
    }

    #[test]
    fn overlap_distinguishes_copies_from_independent_work() {
        let layout = layout(&[1 << 16]);
        let compression = settings(4096, 64);
        let [one, other] = [1, 2].map(|seed| contribution(&layout, &compression, seed));
        assert_eq!(one.overlap_ppm(&layout, &one), Ok(1_000_000));
        // By chance two choices of 64 of 4096 share 1 of 64, half of them with the same sign.
        let chance = one.overlap_ppm(&layout, &other).unwrap();
        assert!((2_000..20_000).contains(&chance), "{chance}");
    }

    #[test]
    fn another_runs_contribution_is_refused() {
        let (ours, theirs) = (layout(&[64]), layout(&[32, 32]));
        let foreign = contribution(&theirs, &settings(16, 4), 1);
        let mut out = vec![0.0; 64];
        let refusal = Error::ForeignContribution { position: 0 };
        assert_eq!(foreign.add_to(&ours, &mut out, 1.0), Err(refusal));
        assert!(matches!(
            foreign.add_to(&theirs, &mut out[1..], 1.0),
            Err(Error::Length { .. })
        ));
        assert!(matches!(
            foreign.add_clipped_to(&theirs, &mut out, 1.0, &[1.0]),
            Err(Error::Length { .. })
        ));
        assert_eq!(out, [0.0; 64]);
        let mine = contribution(&ours, &settings(16, 4), 1);
        let other_settings = contribution(&ours, &settings(16, 5), 1);
        assert!(mine.overlap_ppm(&ours, &foreign).is_err());
        assert!(mine.overlap_ppm(&ours, &other_settings).is_err());
    }
}
