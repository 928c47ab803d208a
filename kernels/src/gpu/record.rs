//! From the records of all chunks to the body.

use std::ops::Deref;

use super::kernel::NOT_FINITE;
use super::shape::{HEAD, Shape, WORD};
use crate::codec::body::{self, Planes};
use crate::codec::rice::Rice;
use crate::grid::{Chunk, Grid};
use crate::quantise::{Kept, Scale};
use crate::{Compression, Error, Layout};

/// The body that the records say, a buffer of them for each tensor.
pub(super) fn assemble<B: Deref<Target = [u8]>>(
    layout: &Layout,
    compression: &Compression,
    grid: &Grid,
    shape: &Shape,
    records: &[B],
) -> Result<Vec<u8>, Error> {
    let record_bytes = shape.record_words() as usize * size_of::<u32>();
    let records = records.iter().flat_map(|tensor| tensor.chunks_exact(record_bytes));
    let mut planes = Planes::zero(grid);
    for ((number, chunk), record) in grid.chunks().iter().enumerate().zip(records) {
        let words: Vec<u32> = record.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        match words[0] {
            0 => {}
            NOT_FINITE => return Err(not_finite(layout, chunk, words[1])),
            scale => {
                let kept = &mut planes.kept[chunk.slots()];
                let unusable = || Error::Device { why: format!("what it says of chunk {number} makes no sense") };
                planes.scales[number] = u8::try_from(scale).map(Scale::from_number).map_err(|_| unusable())?;
                read_kept(compression, shape, chunk, &words[HEAD as usize..], kept).ok_or_else(unusable)?;
            }
        }
    }
    Ok(body::encode(compression, grid, &planes))
}

fn not_finite(layout: &Layout, chunk: &Chunk, told: u32) -> Error {
    let what = if told % 2 == 1 { "the pseudo-gradient" } else { "the error feedback" };
    let tensor = layout.tensors()[chunk.tensor].name.clone();
    Error::NotFinite { what, tensor, index: chunk.start + told as usize / 2 - layout.range(chunk.tensor).start }
}

/// Reads a chunk's kept values from its bit strings; `None` where these say anything impossible.
fn read_kept(
    compression: &Compression,
    shape: &Shape,
    chunk: &Chunk,
    strings: &[u32],
    kept: &mut [Kept],
) -> Option<()> {
    let rice = Rice::for_settings(compression);
    let (signs, gaps) = strings.split_at(shape.sign_words() as usize);
    let (lows, highs) = gaps.split_at(shape.low_words() as usize);
    let bit = |string: &[u32], place: usize| Some(string.get(place / WORD as usize)? >> (place % WORD as usize) & 1);
    let (mut next, mut place) = (0, 0);
    for (rank, kept) in kept.iter_mut().enumerate() {
        let first = rank * rice.low_bits() as usize;
        let low = (0..rice.low_bits() as usize).try_fold(0, |low, i| Some(low | bit(lows, first + i)? << i))?;
        let mut high = 0;
        while bit(highs, place)? == 0 {
            high += 1;
            place += 1;
        }
        place += 1;
        let index = next + rice.gap(high, low) as usize;
        if index >= chunk.length {
            return None;
        }
        *kept = Kept::new(index as u16, bit(signs, rank)? == 1);
        next = index + 1;
    }
    Some(())
}
