//! What the kernel is compiled for, and how long a chunk's record is.

use crate::Compression;
use crate::codec::record;
use crate::codec::rice::Rice;

/// The most units (threads) that work on a chunk: what WebGPU promises.
const MOST_UNITS: u32 = 256;
/// The most values that a unit keeps in registers; those of longer chunks are read again from the
/// device's memory.
const MOST_HELD: u32 = 16;
/// Bits in a word.
pub(super) const WORD: u32 = 32;
/// Numbers that a radix level tells apart.
pub(super) const BINS: u32 = 256;
/// Bins of a level that one sum stands for.
pub(super) const GROUP: u32 = 16;
/// Words of a histogram: a count for each bin, then one for each group of bins.
pub(super) const HISTOGRAM: u32 = BINS + BINS / GROUP;
/// Histograms in turn: one is read, one is filled, one is cleared.
pub(super) const HISTOGRAMS: u32 = 3;
/// Levels at which the units' largest values are looked at.
pub(super) const FLOOR_LEVELS: u32 = 2;
/// Words of a record before its bit strings.
pub(super) const HEAD: u32 = record::HEAD as u32;

/// What is known of all chunks when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Values of a whole chunk.
    pub chunk: u32,
    /// Values that it keeps.
    pub keep: u32,
    /// How gaps are coded.
    pub rice: Rice,
    /// Units that work on a chunk, a multiple of 32.
    pub units: u32,
}

impl Shape {
    /// The shape for settings that make sense.
    pub fn new(compression: &Compression) -> Self {
        let (chunk, keep) = (compression.chunk as u32, compression.keep as u32);
        let units = chunk
            .div_ceil(MOST_HELD)
            .next_power_of_two()
            .clamp(WORD, MOST_UNITS);
        Self {
            chunk,
            keep,
            rice: Rice::for_settings(compression),
            units,
        }
    }

    /// Values of a chunk that a unit looks after: one in each row of `units`.
    pub fn rows(&self) -> u32 {
        self.chunk.div_ceil(self.units)
    }

    /// Whether a unit's values stay in its registers.
    pub fn held(&self) -> bool {
        self.rows() <= MOST_HELD
    }

    /// Whether the units' own largest values tell a floor that no kept value is below.
    pub fn floored(&self) -> bool {
        2 * self.keep <= self.units
    }

    /// The histogram that a level of the selection counts in.
    pub fn turn(&self, level: u32) -> u32 {
        (level + if self.floored() { FLOOR_LEVELS } else { 0 }) % HISTOGRAMS
    }

    /// The histograms that the units count in, tell their last index in, and their lengths, once
    /// all levels are done.
    pub fn scans(&self) -> [u32; 3] {
        [1, 2, 3].map(|after| (self.turn(3) + after) % HISTOGRAMS)
    }

    /// Words of a set of a chunk's values.
    pub fn set_words(&self) -> u32 {
        self.chunk.div_ceil(WORD)
    }

    /// Words of a set that a unit looks after.
    pub fn words_of_unit(&self) -> u32 {
        self.set_words().div_ceil(self.units)
    }

    /// Where a whole chunk's record keeps what.
    pub fn record(&self) -> record::Shape {
        record::Shape::of(self.rice, self.chunk as usize, self.keep as usize)
    }

    /// Bits of a gap in the low string.
    pub fn low_bits(&self) -> u32 {
        self.rice.low_bits()
    }

    /// Words of the signs.
    pub fn sign_words(&self) -> u32 {
        self.record().signs().len() as u32
    }

    /// Words of the low bits of gaps.
    pub fn low_words(&self) -> u32 {
        self.record().lows().len() as u32
    }

    /// Words of the three strings.
    pub fn string_words(&self) -> u32 {
        self.record_words() - HEAD
    }

    /// Words of a chunk's record.
    pub fn record_words(&self) -> u32 {
        self.record().words() as u32
    }

    /// Bytes of memory that the units of a chunk share.
    pub fn shared_bytes(&self) -> usize {
        let words = HISTOGRAMS * HISTOGRAM + 3 * self.set_words() + self.string_words() + 2;
        words as usize * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_CHUNK;

    fn shape(chunk: usize, keep: usize) -> Shape {
        Shape::new(&Compression {
            chunk,
            keep,
            decay_ppm: 0,
        })
    }

    #[test]
    fn the_default_is_held_in_registers_and_leaves_few_words() {
        let shape = shape(4096, 64);
        assert_eq!(
            (shape.units, shape.rows(), shape.held(), shape.floored()),
            (256, 16, true, true)
        );
        assert_eq!(shape.record_words(), 2 + 2 + 10 + 6);
    }

    #[test]
    fn what_is_shared_fits_what_webgpu_promises() {
        for chunk in [1, 64, 4096, 8192, 16_384] {
            for keep in 1..=chunk {
                assert!(
                    shape(chunk, keep).shared_bytes() <= 16 << 10,
                    "{keep} of {chunk}"
                );
            }
        }
        assert!(shape(MAX_CHUNK, 512).shared_bytes() <= 16 << 10);
        for keep in 1..=MAX_CHUNK {
            assert!(
                shape(MAX_CHUNK, keep).shared_bytes() <= 24 << 10,
                "{keep} of {MAX_CHUNK}"
            );
        }
    }
}
