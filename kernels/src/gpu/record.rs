//! Assembles the body from the records of all chunks.

use std::ops::Deref;

use super::kernel::NOT_FINITE;
use super::shape::Shape;
use crate::codec::rice::Rice;
use crate::codec::{body, record};
use crate::grid::{Chunk, Grid};
use crate::{Compression, Error, Layout};

/// Assembles the body from the records, one buffer per tensor.
///
/// The device may be faulty, so the result is checked as strictly as a stranger's body.
pub(super) fn assemble<B: Deref<Target = [u8]>>(
    layout: &Layout,
    compression: &Compression,
    grid: &Grid,
    shape: &Shape,
    records: &[B],
) -> Result<Vec<u8>, Error> {
    let rice = Rice::for_settings(compression);
    let unusable = |why: &str| Error::Device {
        why: format!("its output is invalid: {why}"),
    };
    let whole = shape.record();
    let record_words = whole.words();
    for (tensor, range) in records.iter().zip(layout.ranges()) {
        if tensor.len() != range.len().div_ceil(compression.chunk) * record_words * size_of::<u32>()
        {
            return Err(unusable("wrong number of records"));
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
            let read = record[from].iter().map(|word| u32::from_le_bytes(*word));
            words[to]
                .iter_mut()
                .zip(read)
                .for_each(|(word, read)| *word = read);
        }
        match words[0] {
            0..NOT_FINITE if record::high_bits(words) <= 32 * part.highs().len() => {}
            NOT_FINITE => return Err(not_finite(layout, chunk, words[1])),
            _ => return Err(unusable("impossible record")),
        }
    }
    let body = body::assemble(rice, grid, &words);
    body::decode(compression, grid, &body).map_err(|error| unusable(&error.to_string()))?;
    Ok(body)
}

/// The error that a record with [`NOT_FINITE`] reports by its second word.
fn not_finite(layout: &Layout, chunk: &Chunk, report: u32) -> Error {
    let what = if report % 2 == 1 {
        "the pseudo-gradient"
    } else {
        "the error feedback"
    };
    let tensor = layout.tensors()[chunk.tensor].name.clone();
    Error::NotFinite {
        what,
        tensor,
        index: chunk.start + report as usize / 2 - layout.range(chunk.tensor).start,
    }
}
