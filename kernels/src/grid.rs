//! Chunks: how the compressor cuts tensors, and how many values of each piece it keeps.
//!
//! Each tensor is cut into chunks of [`Compression::chunk`] consecutive values; its last chunk may
//! be shorter. A full chunk keeps [`Compression::keep`] values. A chunk of `length` values keeps
//! `ceil(length * keep / chunk)`, which is at least one. The number of kept values follows from the
//! manifest alone, so it is never sent.
//!
//! Chunks never cross tensors, because magnitudes differ between tensors and a chunk has one scale.

use std::ops::Range;

use weal_proto::CHUNK_BYTES;

use crate::codec::record;
use crate::codec::rice::Rice;
use crate::{Error, Layout};

/// The longest chunk, so that an index and a sign fit 16 bits.
pub const MAX_CHUNK: usize = 1 << 15;

/// One, in parts per million.
pub(crate) const MILLION: u32 = 1_000_000;

/// How pseudo-gradients are compressed. It must be equal for all peers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    /// Consecutive values of a tensor from which the largest are chosen, 1 to [`MAX_CHUNK`].
    pub chunk: usize,
    /// Values kept per chunk, 1 to `chunk`.
    pub keep: usize,
    /// The fraction of the error feedback carried into the next round, in parts per million, at
    /// most 1,000,000.
    pub decay_ppm: u32,
}

impl Default for Compression {
    /// 32 of every 4096 values, decay 0.9. SparseLoCo (arXiv 2508.15706) keeps 64 and decays by
    /// 0.95; docs/benchmarks.md has the comparison.
    fn default() -> Self {
        Self {
            chunk: 4096,
            keep: 32,
            decay_ppm: 900_000,
        }
    }
}

impl Compression {
    /// Checks that the settings are in range.
    ///
    /// # Errors
    /// [`Error::Compression`], which names the setting and the accepted range.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |setting, got, accepted| {
            Err(Error::Compression {
                setting,
                got,
                accepted,
            })
        };
        if !(1..=MAX_CHUNK).contains(&self.chunk) {
            return refuse("chunk", self.chunk as u64, "between 1 and 32768");
        }
        if !(1..=self.chunk).contains(&self.keep) {
            return refuse("keep", self.keep as u64, "between 1 and the chunk's length");
        }
        if self.decay_ppm > MILLION {
            return refuse("decay_ppm", self.decay_ppm.into(), "at most 1000000");
        }
        Ok(())
    }

    /// The decay as a factor from 0 to 1.
    pub(crate) fn decay(&self) -> f32 {
        self.decay_ppm as f32 / MILLION as f32
    }

    /// The number of values that a chunk of `length` values keeps.
    fn keep_of(&self, length: usize) -> usize {
        (length * self.keep).div_ceil(self.chunk)
    }
}

/// One chunk of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Offset of its first value in the flat vector.
    pub start: usize,
    /// Number of values.
    pub length: usize,
    /// Number of values it keeps.
    pub keep: usize,
    /// Offset of its record in the words of all records (see [`record`]).
    pub record: usize,
    /// The number of its tensor.
    pub tensor: usize,
}

impl Chunk {
    /// The range of its values in the flat vector.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.start + self.length
    }
}

/// Consecutive chunks of one tensor, the unit of work for a thread.
///
/// A tile has the chunks that begin in the same blob chunk of the tensor (see
/// [`weal_proto::outline`]), so that it can be hashed while it is in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tile {
    /// The numbers of its chunks.
    pub chunks: Range<usize>,
    /// The range of its values in the flat vector.
    pub values: Range<usize>,
}

impl Tile {
    /// The range of one of its chunks, relative to the tile's start.
    pub(crate) fn place(&self, chunk: &Chunk) -> Range<usize> {
        let start = chunk.start - self.values.start;
        start..start + chunk.length
    }
}

/// Values per tile, if chunks divide it evenly.
const TILE_VALUES: usize = CHUNK_BYTES / size_of::<f32>();

/// All chunks and tiles of a layout, in order.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    chunks: Vec<Chunk>,
    tiles: Vec<Tile>,
    record_words: usize,
    tiles_are_blob_chunks: bool,
}

impl Grid {
    /// Cuts the layout's tensors.
    ///
    /// # Errors
    /// [`Error::Compression`] if the settings are out of range.
    pub(crate) fn new(layout: &Layout, compression: &Compression) -> Result<Self, Error> {
        Self::with_tiles(layout, compression, TILE_VALUES)
    }

    /// Cuts them into tiles of about `tile_values` values. Results do not depend on that number.
    pub(crate) fn with_tiles(
        layout: &Layout,
        compression: &Compression,
        tile_values: usize,
    ) -> Result<Self, Error> {
        compression.validate()?;
        let rice = Rice::for_settings(compression);
        let mut grid = Self {
            chunks: Vec::new(),
            tiles: Vec::new(),
            record_words: 0,
            tiles_are_blob_chunks: tile_values == TILE_VALUES
                && tile_values.is_multiple_of(compression.chunk),
        };
        for (tensor, range) in layout.ranges().enumerate() {
            for start in range.clone().step_by(compression.chunk) {
                let length = compression.chunk.min(range.end - start);
                let keep = compression.keep_of(length);
                let (number, end) = (grid.chunks.len(), start + length);
                match grid.tiles.last_mut() {
                    Some(Tile { chunks, values })
                        if values.start >= range.start
                            && (start - range.start) / tile_values
                                == (values.start - range.start) / tile_values =>
                    {
                        (chunks.end, values.end) = (number + 1, end);
                    }
                    _ => grid.tiles.push(Tile {
                        chunks: number..number + 1,
                        values: start..end,
                    }),
                }
                grid.chunks.push(Chunk {
                    start,
                    length,
                    keep,
                    record: grid.record_words,
                    tensor,
                });
                grid.record_words += record::Shape::of(rice, length, keep).words();
            }
        }
        Ok(grid)
    }

    /// The chunks, in order.
    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The tiles, in order. Together they have every chunk.
    pub(crate) fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// A tile's chunks, in order.
    pub(crate) fn chunks_of(&self, tile: &Tile) -> &[Chunk] {
        &self.chunks[tile.chunks.clone()]
    }

    /// Whether each tile is exactly one chunk of its tensor's blob, as when chunks divide 1 MiB.
    pub(crate) fn tiles_are_blob_chunks(&self) -> bool {
        self.tiles_are_blob_chunks
    }

    /// The number of values kept by all chunks together.
    pub(crate) fn kept(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.keep).sum()
    }

    /// The number of words in all records together.
    pub(crate) fn record_words(&self) -> usize {
        self.record_words
    }

    /// Splits the flat vector into one slice per chunk, to write to them in parallel.
    pub(crate) fn split_values_mut<'a, T>(&self, values: &'a mut [T]) -> Vec<&'a mut [T]> {
        split_mut(values, self.chunks.iter().map(|chunk| chunk.length))
    }

    /// Splits values into one slice per tile.
    pub(crate) fn split_tiles_mut<'a, T>(&self, values: &'a mut [T]) -> Vec<&'a mut [T]> {
        split_mut(values, self.tiles.iter().map(|tile| tile.values.len()))
    }

    /// Splits the words of all records into one slice per chunk.
    pub(crate) fn split_records_mut<'a>(&self, words: &'a mut [u32]) -> Vec<&'a mut [u32]> {
        let ends = self
            .chunks
            .iter()
            .skip(1)
            .map(|chunk| chunk.record)
            .chain([self.record_words]);
        split_mut(
            words,
            self.chunks
                .iter()
                .zip(ends)
                .map(|(chunk, end)| end - chunk.record),
        )
    }
}

fn split_mut<T>(values: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    let mut left = values;
    lengths
        .map(|length| {
            let (piece, rest) = std::mem::take(&mut left).split_at_mut(length);
            left = rest;
            piece
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorSpec;

    fn grid(lengths: &[usize], chunk: usize, keep: usize) -> Vec<(usize, usize, usize)> {
        let tensors = lengths.iter().enumerate();
        let tensors = tensors
            .map(|(i, &n)| TensorSpec::new(format!("t{i}"), [n]))
            .collect();
        let compression = Compression {
            chunk,
            keep,
            decay_ppm: 0,
        };
        let grid = Grid::new(&Layout::new(tensors).unwrap(), &compression).unwrap();
        grid.chunks()
            .iter()
            .map(|c| (c.start, c.length, c.keep))
            .collect()
    }

    #[test]
    fn the_last_chunk_of_each_tensor_keeps_its_share() {
        assert_eq!(
            grid(&[4096 + 65, 1, 64, 4096], 4096, 64),
            [
                (0, 4096, 64),
                (4096, 65, 2),
                (4161, 1, 1),
                (4162, 64, 1),
                (4226, 4096, 64)
            ]
        );
        assert_eq!(grid(&[5], 4, 4), [(0, 4, 4), (4, 1, 1)]);
        assert_eq!(grid(&[7], 4, 3), [(0, 4, 3), (4, 3, 3)]);
    }

    #[test]
    fn no_chunk_keeps_more_than_it_has() {
        for chunk in 1..40 {
            for keep in 1..=chunk {
                for (_, length, kept) in grid(&[3 * chunk / 2, 1, chunk], chunk, keep) {
                    assert!((1..=length).contains(&kept));
                }
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let named = |chunk, keep, decay_ppm| match (Compression {
            chunk,
            keep,
            decay_ppm,
        })
        .validate()
        {
            Err(Error::Compression { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        assert_eq!(named(0, 1, 0), "chunk");
        assert_eq!(named(MAX_CHUNK + 1, 1, 0), "chunk");
        assert_eq!(named(8, 0, 0), "keep");
        assert_eq!(named(8, 9, 0), "keep");
        assert_eq!(named(8, 8, 1_000_001), "decay_ppm");
        Compression::default().validate().unwrap();
    }
}
