//! What the units of a cube share: the chunk they work on, its values, and the shared memory.

use cubecl::prelude::*;

use super::shape::{HISTOGRAM, HISTOGRAMS, Shape};

/// All bits but the sign. Read as whole numbers, they sort as the magnitudes do.
pub(super) const MAGNITUDE: u32 = 0x7fff_ffff;

/// The chunk a cube works on.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Chunk {
    /// Offset of its first value in the tensor.
    pub start: u32,
    /// Number of values.
    pub length: u32,
    /// Number of values to keep.
    pub keep: u32,
}

/// Shared memory of a cube. A *set* has one bit for each value of the chunk.
#[derive(CubeType)]
pub(super) struct Memory {
    /// Histograms of the selection; afterwards, what units pass to the units after them.
    pub histograms: Shared<[Atomic<u32>]>,
    /// The set of values above the smallest kept magnitude; in the end, of all kept values.
    pub kept: Shared<[Atomic<u32>]>,
    /// The set of values equal to the smallest kept magnitude.
    pub equal: Shared<[Atomic<u32>]>,
    /// The set of negative values among those two.
    pub negative: Shared<[Atomic<u32>]>,
    /// The record's bit strings.
    pub strings: Shared<[Atomic<u32>]>,
    /// The first value that is not finite, encoded as [`super::kernel::NOT_FINITE`] describes.
    pub not_finite: Shared<Atomic<u32>>,
    /// Sum of the truncated mantissas above the smallest kept magnitude.
    pub sum: Shared<Atomic<u32>>,
}

/// Allocates the shared memory. It is zero once the units have met at a barrier.
#[cube]
pub(super) fn empty_memory(#[comptime] shape: Shape) -> Memory {
    let memory = Memory {
        histograms: zeros(comptime!(HISTOGRAMS * HISTOGRAM), comptime!(shape.units)),
        kept: zeros(comptime!(shape.set_words()), comptime!(shape.units)),
        equal: zeros(comptime!(shape.set_words()), comptime!(shape.units)),
        negative: zeros(comptime!(shape.set_words()), comptime!(shape.units)),
        strings: zeros(comptime!(shape.string_words()), comptime!(shape.units)),
        not_finite: Shared::<Atomic<u32>>::new(),
        sum: Shared::<Atomic<u32>>::new(),
    };
    if UNIT_POS == 0u32 {
        memory.not_finite.store(u32::MAX.runtime());
        memory.sum.store(0u32);
    }
    memory
}

/// Allocates `words` words, each unit clearing its part.
#[cube]
fn zeros(#[comptime] words: u32, #[comptime] units: u32) -> Shared<[Atomic<u32>]> {
    let memory = Shared::<[Atomic<u32>]>::new_slice(comptime!(words as usize));
    for part in 0..comptime!(words.div_ceil(units)) {
        let place = part * units + UNIT_POS;
        if place < words {
            memory[place as usize].store(0u32);
        }
    }
    memory
}

/// Clears a histogram, each unit its part.
#[cube]
pub(super) fn clear(
    histograms: &Shared<[Atomic<u32>]>,
    #[comptime] histogram: u32,
    #[comptime] units: u32,
) {
    let start = comptime!(histogram * HISTOGRAM);
    #[unroll]
    for part in 0..comptime!(HISTOGRAM.div_ceil(units)) {
        let place = UNIT_POS + comptime!(part * units);
        if place < comptime!(HISTOGRAM) {
            histograms[(start + place) as usize].store(0u32);
        }
    }
}

/// The bits of this unit's accumulated value in `row`, from its registers or from `values`.
#[cube]
pub(super) fn value(
    values: &[u32],
    held: &Array<u32>,
    chunk: &Chunk,
    row: u32,
    #[comptime] shape: Shape,
) -> u32 {
    if comptime!(shape.held()) {
        held[row as usize]
    } else {
        values[(chunk.start + row * comptime!(shape.units) + UNIT_POS) as usize]
    }
}

/// The magnitude of that value, as bits.
#[cube]
pub(super) fn magnitude(
    values: &[u32],
    held: &Array<u32>,
    chunk: &Chunk,
    row: u32,
    #[comptime] shape: Shape,
) -> u32 {
    value(values, held, chunk, row, shape) & MAGNITUDE
}
