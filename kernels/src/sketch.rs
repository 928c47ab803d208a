//! Samples of contributions: whether one repeats another of an earlier round.
//!
//! A decoded contribution of a large model takes tens of megabytes, too much to keep for rounds. So
//! a node keeps the values of a few hundred chunks of each, the same chunks of all. Which chunks
//! those are follows from a number that only the node knows: who repeats an earlier contribution
//! cannot know where to change it.

use rayon::prelude::*;

use crate::codec::unpack::Unpacked;
use crate::contribution::Contribution;
use crate::grid::MILLION;
use crate::{Error, Layout};

/// Chunks in a sample, on average. With 32 values in a chunk, two contributions that share half of
/// their values are taken for sharing between 47 and 53 %, almost always.
const CHUNKS: u64 = 256;
/// Bits of a value's place within its chunk ([`MAX_CHUNK`](crate::MAX_CHUNK)).
const PLACE_BITS: u32 = 15;

/// The values of some chunks of a contribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    /// Chunk, place and sign of each value, ascending.
    values: Vec<u64>,
}

impl Sketch {
    /// Samples a contribution. Only samples with the same `key` can be compared.
    ///
    /// # Errors
    /// [`Error::ForeignContribution`] if it was decoded for another layout.
    pub fn of(layout: &Layout, contribution: &Contribution, key: u64) -> Result<Self, Error> {
        let grid = contribution.grid(layout)?;
        let chunks = grid.chunks().len() as u64;
        let is_sampled = |chunk: &usize| is_sampled(key, *chunk as u64, chunks);
        let tiles = grid.tiles().par_iter().enumerate();
        let tiles = tiles.filter(|(_, tile)| tile.chunks.clone().any(|chunk| is_sampled(&chunk)));
        let values = tiles.map_init(Unpacked::default, |unpacked, (number, tile)| {
            let mut reader = contribution.tile(number, tile);
            let mut sampled = Vec::new();
            for (number, chunk) in tile.chunks.clone().zip(grid.chunks_of(tile)) {
                let (_, values) = reader.next(chunk, unpacked);
                if is_sampled(&number) {
                    let entry = |place: usize, is_negative: bool| {
                        ((number as u64) << PLACE_BITS | place as u64) << 1 | u64::from(is_negative)
                    };
                    let values = values.iter();
                    sampled.extend(values.map(|one| entry(one.index(), one.is_negative())));
                }
            }
            sampled
        });
        let values: Vec<Vec<u64>> = values.collect();
        Ok(Self {
            values: values.concat(),
        })
    }

    /// The sampled places of two contributions with equal signs, in parts per million of the
    /// sampled values of whichever has fewer; 0 if either has none: an estimate of
    /// [`Contribution::overlap_ppm`].
    pub fn shared_ppm(&self, other: &Self) -> u32 {
        let fewer = self.values.len().min(other.values.len()).max(1);
        let mut theirs = other.values.iter().peekable();
        let is_shared = |value: &&u64| {
            while theirs.next_if(|their| their < value).is_some() {}
            theirs.peek() == Some(value)
        };
        let shared = self.values.iter().filter(is_shared).count();
        (shared as u128 * u128::from(MILLION) / fewer as u128) as u32
    }
}

/// Whether a chunk is in the sample: about [`CHUNKS`] of `chunks` are, or all if there are no more.
fn is_sampled(key: u64, chunk: u64, chunks: u64) -> bool {
    chunks <= CHUNKS || mixed(key ^ mixed(chunk)) < u64::MAX / chunks * CHUNKS
}

/// A number that looks like chance: the finaliser of SplitMix64 (Steele et al. 2014).
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{layout, settings, values};
    use crate::{compress, decode};

    /// The contribution that sends the largest of these values.
    fn contribution(layout: &Layout, delta: &[f32]) -> Contribution {
        let compression = settings(64, 8);
        let mut feedback = vec![0.0; delta.len()];
        let body = compress(layout, &compression, delta, &mut feedback).unwrap();
        decode(layout, &compression, &body, body.len()).unwrap()
    }

    /// Two contributions of a model of two tensors of this length. `same` of ten values of what
    /// they learnt are alike in both.
    fn two(length: usize, same: usize) -> (Layout, [Contribution; 2]) {
        let layout = layout(&[length, length]);
        let (one, other) = (values(1, 2 * length), values(2, 2 * length));
        let is_same = |place: usize| place % 10 < same;
        let mixed = one.iter().zip(&other).enumerate();
        let mixed = mixed.map(|(place, (one, other))| if is_same(place) { one } else { other });
        let mixed: Vec<f32> = mixed.copied().collect();
        let both = [contribution(&layout, &one), contribution(&layout, &mixed)];
        (layout, both)
    }

    #[test]
    fn a_small_model_is_compared_whole() {
        let (layout, [one, other]) = two(64 * 100, 5);
        let sketch = |of| Sketch::of(&layout, of, 7).unwrap();
        assert_eq!(
            Ok(sketch(&one).shared_ppm(&sketch(&other))),
            one.overlap_ppm(&layout, &other)
        );
        assert_eq!(sketch(&one).shared_ppm(&sketch(&one)), MILLION);
    }

    #[test]
    fn of_a_large_model_a_few_hundred_chunks_tell_as_much() {
        let (layout, [one, other]) = two(64 * 4_000, 5);
        let exact = one.overlap_ppm(&layout, &other).unwrap();
        for key in 0..20 {
            let sketch = |of| Sketch::of(&layout, of, key).unwrap();
            let chunks = sketch(&one).values.len() / 8;
            assert!((150..400).contains(&chunks), "{chunks} chunks");
            let found = sketch(&one).shared_ppm(&sketch(&other));
            assert!(found.abs_diff(exact) < 60_000, "{found}, and not {exact}");
        }
    }

    #[test]
    fn which_chunks_are_sampled_follows_from_the_key() {
        let (layout, [one, _]) = two(64 * 4_000, 5);
        let sketch = |key| Sketch::of(&layout, &one, key).unwrap();
        assert_eq!(sketch(1), sketch(1));
        assert!(sketch(1).shared_ppm(&sketch(2)) < 200_000);
    }

    #[test]
    fn what_sends_nothing_repeats_nothing() {
        let (layout, [one, _]) = two(64 * 10, 5);
        let nothing = contribution(&layout, &[0.0; 64 * 20]);
        let sketch = |of| Sketch::of(&layout, of, 7).unwrap();
        assert_eq!(sketch(&nothing).shared_ppm(&sketch(&one)), 0);
        assert_eq!(sketch(&one).shared_ppm(&sketch(&nothing)), 0);
    }
}
