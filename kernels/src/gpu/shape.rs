//! The kernel's compile-time parameters, and the length of a chunk's record.

use crate::Compression;
use crate::codec::record;
use crate::codec::rice::Rice;

/// The most units (threads) per chunk: the number WebGPU guarantees.
const MOST_UNITS: u32 = 256;
/// The most values a unit holds in registers. Values of longer chunks are read again from device
/// memory.
const MOST_HELD: u32 = 16;
/// Bits in a word.
pub(super) const WORD: u32 = 32;
/// Bins of a radix level.
pub(super) const BINS: u32 = 256;
/// Bins that share one subtotal.
pub(super) const GROUP: u32 = 16;
/// Words of a histogram: a count for each bin, then one for each group of bins.
pub(super) const HISTOGRAM: u32 = BINS + BINS / GROUP;
/// Number of histograms, used in turn: one is read, one is filled, one is cleared.
pub(super) const HISTOGRAMS: u32 = 3;
/// Radix levels run on the units' largest values.
pub(super) const FLOOR_LEVELS: u32 = 2;
/// Words at the start of a record, before its bit strings.
pub(super) const HEAD: u32 = record::HEAD as u32;

/// What the kernel is compiled for: the same for all chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Values in a full chunk.
    pub chunk: u32,
    /// Values it keeps.
    pub keep: u32,
    /// The code for gaps.
    pub rice: Rice,
    /// Units per chunk, a multiple of 32.
    pub units: u32,
}

impl Shape {
    /// The shape for valid settings.
    pub(crate) fn new(compression: &Compression) -> Self {
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

    /// Values per unit: one in each row of `units` values.
    pub(crate) fn rows(&self) -> u32 {
        self.chunk.div_ceil(self.units)
    }

    /// Whether units hold their values in registers.
    pub(crate) fn held(&self) -> bool {
        self.rows() <= MOST_HELD
    }

    /// Whether the units' largest values give a useful lower bound of the kept magnitudes.
    pub(crate) fn floored(&self) -> bool {
        2 * self.keep <= self.units
    }

    /// The histogram in which a level of the selection counts.
    pub(crate) fn turn(&self, level: u32) -> u32 {
        (level + if self.floored() { FLOOR_LEVELS } else { 0 }) % HISTOGRAMS
    }

    /// The histograms for the three scans after the selection: counts, last indices, lengths.
    pub(crate) fn scans(&self) -> [u32; 3] {
        [1, 2, 3].map(|after| (self.turn(3) + after) % HISTOGRAMS)
    }

    /// Words of a set with one bit for each value of a chunk.
    pub(crate) fn set_words(&self) -> u32 {
        self.chunk.div_ceil(WORD)
    }

    /// Words of a set per unit.
    pub(crate) fn words_of_unit(&self) -> u32 {
        self.set_words().div_ceil(self.units)
    }

    /// The layout of a full chunk's record.
    pub(crate) fn record(&self) -> record::Shape {
        record::Shape::of(self.rice, self.chunk as usize, self.keep as usize)
    }

    /// Bits per gap in the low string.
    pub(crate) fn low_bits(&self) -> u32 {
        self.rice.low_bits()
    }

    /// Words of the sign string.
    pub(crate) fn sign_words(&self) -> u32 {
        self.record().signs().len() as u32
    }

    /// Words of the low string.
    pub(crate) fn low_words(&self) -> u32 {
        self.record().lows().len() as u32
    }

    /// Words of all three strings.
    pub(crate) fn string_words(&self) -> u32 {
        self.record_words() - HEAD
    }

    /// Words of a record.
    pub(crate) fn record_words(&self) -> u32 {
        self.record().words() as u32
    }

    /// Bytes of shared memory per cube.
    pub(crate) fn shared_bytes(&self) -> usize {
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
    fn chunks_of_4096_are_held_in_registers_and_have_short_records() {
        assert_eq!(shape(4096, 32).record_words(), 2 + 1 + 6 + 3);
        let shape = shape(4096, 64);
        assert_eq!(
            (shape.units, shape.rows(), shape.held(), shape.floored()),
            (256, 16, true, true)
        );
        assert_eq!(shape.record_words(), 2 + 2 + 10 + 6);
    }

    #[test]
    fn shared_memory_stays_within_the_limits_of_webgpu() {
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
