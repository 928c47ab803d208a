//! From the records of all chunks to the body.

use std::ops::Deref;

use super::kernel::NOT_FINITE;
use super::shape::Shape;
use crate::codec::rice::Rice;
use crate::codec::{body, record};
use crate::grid::{Chunk, Grid};
use crate::{Compression, Error, Layout};

/// The body that the records say, a buffer of them for each tensor.
///
/// A device may be broken: what it says is checked as a stranger's body would be.
pub(super) fn assemble<B: Deref<Target = [u8]>>(
    layout: &Layout,
    compression: &Compression,
    grid: &Grid,
    shape: &Shape,
    records: &[B],
) -> Result<Vec<u8>, Error> {
    let rice = Rice::for_settings(compression);
    let unusable = |why: &str| Error::Device {
        why: format!("what it says makes no sense: {why}"),
    };
    let whole = shape.record();
    let record_words = whole.words();
    for (tensor, range) in records.iter().zip(layout.ranges()) {
        if tensor.len() != range.len().div_ceil(compression.chunk) * record_words * size_of::<u32>()
        {
            return Err(unusable("the number of its records"));
        }
    }
    let records = records
        .iter()
        .flat_map(|tensor| tensor.as_chunks().0.chunks_exact(record_words));
    let mut words = vec![0; grid.record_words()];
    for ((chunk, record), words) in grid
        .chunks()
        .iter()
        .zip(records)
        .zip(grid.split_records_mut(&mut words))
    {
        let part = record::Shape::of(rice, chunk.length, chunk.keep);
        let strings = [
            (part.signs(), whole.signs()),
            (part.lows(), whole.lows()),
            (part.highs(), whole.highs()),
        ];
        let head = (0..record::HEAD, 0..record::HEAD);
        for (to, from) in strings.into_iter().chain([head]) {
            let told = record[from].iter().map(|word| u32::from_le_bytes(*word));
            words[to]
                .iter_mut()
                .zip(told)
                .for_each(|(word, told)| *word = told);
        }
        match words[0] {
            0..NOT_FINITE if record::high_bits(words) <= 32 * part.highs().len() => {}
            NOT_FINITE => return Err(not_finite(layout, chunk, words[1])),
            _ => return Err(unusable("a record")),
        }
    }
    let body = body::assemble(rice, grid, &words);
    body::decode(compression, grid, &body).map_err(|error| unusable(&error.to_string()))?;
    Ok(body)
}

fn not_finite(layout: &Layout, chunk: &Chunk, told: u32) -> Error {
    let what = if told % 2 == 1 {
        "the pseudo-gradient"
    } else {
        "the error feedback"
    };
    let tensor = layout.tensors()[chunk.tensor].name.clone();
    Error::NotFinite {
        what,
        tensor,
        index: chunk.start + told as usize / 2 - layout.range(chunk.tensor).start,
    }
}
