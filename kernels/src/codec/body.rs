//! The body: three planes, one after another, with nothing between or after them.
//!
//! | plane | content | length |
//! |---|---|---|
//! | scale | an f16 for every chunk of the layout, little-endian, finite, at least +0 | 2 bytes a chunk |
//! | index | a Golomb–Rice code for every kept value, in order | to a whole byte |
//! | sign | a bit for every kept value, in order, 1 for negative | to a whole byte |
//!
//! A chunk with the scale zero keeps nothing: it appears in neither of the other planes. All other
//! chunks keep exactly as many values as the settings say. Padding bits are zero.
//!
//! So every body that decodes is the only encoding of what it decodes to: gaps and signs are free,
//! and everything else is fixed. And no length travels: each follows from the layout and from the
//! bytes already read, and is compared with the bytes there are before anything is allocated.

use super::bits::{BitReader, BitWriter};
use super::golomb::{GapError, Rice};
use crate::grid::{Chunk, Grid};
use crate::quantise::{Kept, Scale};
use crate::{Compression, Error, Layout};

const SCALE_BYTES: usize = size_of::<u16>();
/// Signs read and written at a time.
const SIGN_BATCH: usize = 32;

/// What a body says: a scale for each chunk, and the kept values of all chunks.
///
/// Every chunk has its [`Chunk::slots`] among the kept values; those of a chunk with the scale zero
/// hold the default.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Planes {
    pub scales: Vec<Scale>,
    pub kept: Vec<Kept>,
}

impl Planes {
    /// The planes of a contribution that says nothing.
    pub fn zero(grid: &Grid) -> Self {
        Self { scales: vec![Scale::ZERO; grid.chunks().len()], kept: vec![Kept::default(); grid.kept()] }
    }

    /// The chunks that keep something, each with its kept values.
    fn sent<'a>(&'a self, grid: &'a Grid) -> impl Iterator<Item = (&'a Chunk, &'a [Kept])> {
        let chunks = grid.chunks().iter().zip(&self.scales);
        let sent = chunks.filter(|(_, scale)| **scale != Scale::ZERO);
        sent.map(|(chunk, _)| (chunk, &self.kept[chunk.slots()]))
    }
}

/// The longest body that any contribution of that layout can have, in bytes.
///
/// # Errors
/// [`Error::Compression`] when the settings make no sense.
pub fn max_body_bytes(layout: &Layout, compression: &Compression) -> Result<usize, Error> {
    let grid = Grid::new(layout, compression)?;
    let rice = Rice::for_settings(compression);
    let most_bits = |chunk: &Chunk| rice.most_bits(chunk.keep, chunk.length - chunk.keep);
    let index_bits: usize = grid.chunks().iter().map(most_bits).sum();
    Ok(grid.chunks().len() * SCALE_BYTES + index_bits.div_ceil(8) + grid.kept().div_ceil(8))
}

/// The body's bytes.
pub(crate) fn encode(compression: &Compression, grid: &Grid, planes: &Planes) -> Vec<u8> {
    let rice = Rice::for_settings(compression);
    // Right for random indices, and only a first guess for others.
    let capacity = planes.scales.len() * SCALE_BYTES + grid.kept() * 9 / 8;
    let mut body = Vec::with_capacity(capacity);
    body.extend(planes.scales.iter().flat_map(|scale| scale.to_bits().to_le_bytes()));

    let mut indices = BitWriter::new(&mut body);
    for (_, kept) in planes.sent(grid) {
        let mut next = 0;
        for value in kept {
            rice.put(&mut indices, (value.index() - next) as u32);
            next = value.index() + 1;
        }
    }
    indices.finish();

    let mut signs = BitWriter::new(&mut body);
    for (_, kept) in planes.sent(grid) {
        for batch in kept.chunks(SIGN_BATCH) {
            let bits = batch.iter().rev().fold(0, |bits, value| bits << 1 | u32::from(value.is_negative()));
            signs.put(bits, batch.len() as u32);
        }
    }
    signs.finish();
    body
}

/// Reads a body from a stranger.
///
/// # Errors
/// Everything that makes it another byte string than [`encode`] would have written.
pub(crate) fn decode(compression: &Compression, grid: &Grid, body: &[u8]) -> Result<Planes, Error> {
    let too_short = |plane| Error::BodyTooShort { plane };
    let (scale_plane, rest) = body.split_at_checked(grid.chunks().len() * SCALE_BYTES).ok_or(too_short("scale"))?;
    let rice = Rice::for_settings(compression);
    // The bytes there are have decided this allocation; the next follows from the layout, once the
    // planes can be as long as these scales ask for.
    let scales = decode_scales(scale_plane)?;
    let kept_of_sent = |(chunk, scale): (&Chunk, &Scale)| match *scale {
        Scale::ZERO => 0,
        _ => chunk.keep,
    };
    let kept: usize = grid.chunks().iter().zip(&scales).map(kept_of_sent).sum();
    if (kept as u64) * u64::from(rice.least_bits() + 1) > rest.len() as u64 * 8 {
        return Err(too_short("index"));
    }
    let mut planes = Planes { scales, kept: vec![Kept::default(); grid.kept()] };
    let rest = decode_indices(rice, grid, &mut planes, rest)?;
    let rest = decode_signs(grid, &mut planes, rest)?;
    if rest.is_empty() { Ok(planes) } else { Err(Error::TrailingBytes { extra: rest.len() }) }
}

fn decode_scales(plane: &[u8]) -> Result<Vec<Scale>, Error> {
    let (halves, _) = plane.as_chunks::<SCALE_BYTES>();
    let scales = halves
        .iter()
        .enumerate()
        .map(|(chunk, &half)| Scale::from_bits(u16::from_le_bytes(half)).ok_or(Error::Scale { chunk }));
    scales.collect()
}

/// Reads the index plane, and returns the bytes after it.
fn decode_indices<'a>(rice: Rice, grid: &Grid, planes: &mut Planes, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    let mut reader = BitReader::new(bytes);
    for (number, chunk) in grid.chunks().iter().enumerate() {
        if planes.scales[number] == Scale::ZERO {
            continue;
        }
        let out_of_range = || Error::IndexOutOfRange { chunk: number, length: chunk.length };
        let mut next = 0;
        for slot in &mut planes.kept[chunk.slots()] {
            let limit = (chunk.length as u32 - 1).checked_sub(next).ok_or_else(out_of_range)?;
            let gap = rice.take(&mut reader, limit).map_err(|error| match error {
                GapError::Ended => Error::BodyTooShort { plane: "index" },
                GapError::TooLarge => out_of_range(),
            })?;
            let index = next + gap;
            *slot = Kept::new(index as u16, false);
            next = index + 1;
        }
    }
    finish(reader, "index")
}

/// Reads the sign plane, and returns the bytes after it.
fn decode_signs<'a>(grid: &Grid, planes: &mut Planes, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    let mut reader = BitReader::new(bytes);
    for (chunk, scale) in grid.chunks().iter().zip(&planes.scales) {
        if *scale == Scale::ZERO {
            continue;
        }
        for batch in planes.kept[chunk.slots()].chunks_mut(SIGN_BATCH) {
            let bits = reader.take(batch.len() as u32);
            let bits = bits.ok_or(Error::BodyTooShort { plane: "sign" })?;
            for (place, value) in batch.iter_mut().enumerate() {
                *value = value.with_sign(bits >> place & 1 == 1);
            }
        }
    }
    finish(reader, "sign")
}

fn finish<'a>(reader: BitReader<'a>, plane: &'static str) -> Result<&'a [u8], Error> {
    match reader.finish() {
        (rest, true) => Ok(rest),
        (_, false) => Err(Error::Padding { plane }),
    }
}
