//! The body: four planes, one after another, with nothing between or after them.
//!
//! | plane | content |
//! |---|---|
//! | scale | for every chunk of the layout, its scale's number minus that of the chunk before |
//! | sign | one bit for every kept value, in order, 1 for negative |
//! | low | the low bits of every kept value's gap, in order |
//! | high | the high bits of every kept value's gap in unary, in order |
//!
//! Each plane is padded to whole bytes with zero bits. For the first chunk's scale, the number
//! before it counts as 0. A difference d is sent in Elias's gamma code as `1 + 2 d`, or as `-2 d`
//! if it is negative. A chunk with the scale zero keeps nothing, and appears in no other plane.
//! Every other chunk keeps exactly the number of values that the settings give.
//!
//! Every body that decodes is therefore the only encoding of its contribution: gaps and signs may
//! take any value, and everything else is fixed. No lengths are sent. Each follows from the layout
//! and the bytes already read, and is checked against the bytes present before anything is
//! allocated.

use super::bits::{BitReader, BitWriter};
use super::gamma::{self, NoNumber};
use super::record::{self, Shape};
use super::rice::Rice;
use super::unpack::{Cursor, Unpacked, check, unpack};
use crate::grid::{Chunk, Grid, Tile};
use crate::quantise::{Kept, Scale};
use crate::simd::multiversion;
use crate::{Compression, Error, Layout};

/// The most bits a scale takes, for a difference of 255.
const MOST_SCALE_BITS: usize = 17;

/// The length of the longest body that a contribution of this layout can have, in bytes.
///
/// # Errors
/// [`Error::Compression`] if the settings are out of range.
pub fn max_body_bytes(layout: &Layout, compression: &Compression) -> Result<usize, Error> {
    let grid = Grid::new(layout, compression)?;
    let rice = Rice::for_settings(compression);
    let most_bits = |chunk: &Chunk| rice.most_high_bits(chunk.keep, chunk.length - chunk.keep);
    let high_bits: usize = grid.chunks().iter().map(most_bits).sum();
    let low_bits = grid.kept() * rice.low_bits() as usize;
    let planes = [
        grid.chunks().len() * MOST_SCALE_BITS,
        grid.kept(),
        low_bits,
        high_bits,
    ];
    Ok(planes.map(|bits| bits.div_ceil(8)).iter().sum())
}

/// Assembles the body from the records of all chunks (see [`record`]).
pub(crate) fn assemble(rice: Rice, grid: &Grid, records: &[u32]) -> Vec<u8> {
    // An estimate that fits random indices.
    let mut body = Vec::with_capacity(grid.chunks().len() + grid.kept() * 9 / 8);
    let record_of = |chunk: &Chunk| {
        &records[chunk.record..][..Shape::of(rice, chunk.length, chunk.keep).words()]
    };

    let mut scales = BitWriter::new(&mut body);
    let mut before = 0;
    for chunk in grid.chunks() {
        let difference = i32::from(record::scale(record_of(chunk)).number()) - before;
        gamma::put(
            &mut scales,
            if difference < 0 {
                -2 * difference
            } else {
                1 + 2 * difference
            } as u32,
        );
        before += difference;
    }
    scales.finish();

    let mut plane = |append: fn(&mut BitWriter<'_>, Rice, Shape, &Chunk, &[u32])| {
        let mut writer = BitWriter::new(&mut body);
        for chunk in grid.chunks() {
            let record = record_of(chunk);
            if record::scale(record) != Scale::ZERO {
                append(
                    &mut writer,
                    rice,
                    Shape::of(rice, chunk.length, chunk.keep),
                    chunk,
                    record,
                );
            }
        }
        writer.finish();
    };
    plane(|to, _, shape, chunk, record| to.append(&record[shape.signs()], chunk.keep));
    plane(|to, rice, shape, chunk, record| {
        to.append(&record[shape.lows()], chunk.keep * rice.low_bits() as usize)
    });
    plane(|to, _, shape, _, record| to.append(&record[shape.highs()], record::high_bits(record)));
    body
}

/// A body that has been checked, so that reading it from the start of any tile cannot fail.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Body {
    rice: Rice,
    bytes: Box<[u8]>,
    scales: Box<[Scale]>,
    /// Offsets of the sign, low and high planes, in bytes.
    planes: [usize; 3],
    /// The position of each tile in the planes.
    seeks: Box<[Seek]>,
}

/// A chunk's position in the planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seek {
    /// Kept values before it.
    kept: usize,
    /// Bits of the high plane before it.
    high: usize,
}

impl Body {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The scale of every chunk.
    pub(crate) fn scales(&self) -> &[Scale] {
        &self.scales
    }

    /// A reader for the chunks of a tile.
    pub(crate) fn tile<'a>(&'a self, number: usize, tile: &Tile) -> TileReader<'a> {
        let Seek { kept, high } = self.seeks[number];
        let [signs, lows, highs] = self.planes;
        let cursor = Cursor {
            signs: &self.bytes[signs..lows],
            lows: &self.bytes[lows..highs],
            highs: &self.bytes[highs..],
            kept,
            high,
        };
        TileReader {
            rice: self.rice,
            scales: &self.scales[tile.chunks.clone()],
            cursor,
        }
    }
}

/// Reads the chunks of a tile in order.
pub(crate) struct TileReader<'a> {
    rice: Rice,
    scales: &'a [Scale],
    cursor: Cursor<'a>,
}

impl TileReader<'_> {
    /// The scale and kept values of the next chunk, which must be `chunk`. There are no values if
    /// the scale is zero, or after the tile's end.
    ///
    /// Indices ascend and are below the chunk's length, because the body was checked.
    #[inline(always)]
    pub(crate) fn next<'u>(
        &mut self,
        chunk: &Chunk,
        unpacked: &'u mut Unpacked,
    ) -> (f32, &'u [Kept]) {
        match self.scales.split_off_first() {
            None | Some(&Scale::ZERO) => (0.0, &[]),
            Some(scale) => (
                scale.to_f32(),
                unpack(&mut self.cursor, self.rice, chunk.keep, unpacked),
            ),
        }
    }
}

/// Decodes a body from a stranger.
///
/// # Errors
/// Anything that [`assemble`] would not have written.
pub(crate) fn decode(compression: &Compression, grid: &Grid, body: &[u8]) -> Result<Body, Error> {
    let rice = Rice::for_settings(compression);
    // Allocations follow from the layout, and only happen if the body is long enough for them.
    let (scales, rest) = decode_scales(grid, body)?;
    let kept_of_sent = |(chunk, scale): (&Chunk, &Scale)| match *scale {
        Scale::ZERO => 0,
        _ => chunk.keep,
    };
    let kept: usize = grid.chunks().iter().zip(&scales).map(kept_of_sent).sum();
    let (signs, rest) = fixed_plane("sign", kept, rest)?;
    let (lows, highs) = fixed_plane("low", kept * rice.low_bits() as usize, rest)?;
    if highs.len() * 8 < kept {
        return Err(Error::BodyTooShort { plane: "high" });
    }
    let seeks = check_kept(
        rice,
        grid,
        &scales,
        Cursor {
            signs,
            lows,
            highs,
            kept: 0,
            high: 0,
        },
    )?;
    let high_plane = body.len() - highs.len();
    let planes = [
        high_plane - lows.len() - signs.len(),
        high_plane - lows.len(),
        high_plane,
    ];
    Ok(Body {
        rice,
        bytes: body.into(),
        scales: scales.into(),
        planes,
        seeks,
    })
}

/// Decodes the scale plane. Returns the scales and the bytes after the plane.
fn decode_scales<'a>(grid: &Grid, body: &'a [u8]) -> Result<(Vec<Scale>, &'a [u8]), Error> {
    let too_short = Error::BodyTooShort { plane: "scale" };
    let chunks = grid.chunks().len();
    if body.len() * 8 < chunks {
        return Err(too_short);
    }
    let mut reader = BitReader::new(body);
    let mut scales = Vec::with_capacity(chunks);
    let mut before = 0;
    for chunk in 0..chunks {
        let code = gamma::take(&mut reader).map_err(|why| match why {
            NoNumber::CutShort => too_short.clone(),
            NoNumber::TooLong => Error::Scale { chunk },
        })? as i32;
        let difference = if code % 2 == 0 { -(code / 2) } else { code / 2 };
        let number = u8::try_from(before + difference).map_err(|_| Error::Scale { chunk })?;
        scales.push(Scale::from_number(number));
        before = i32::from(number);
    }
    match reader.finish() {
        (rest, true) => Ok((scales, rest)),
        (_, false) => Err(Error::Padding { plane: "scale" }),
    }
}

/// Splits a plane of `bits` bits off the bytes, and checks its padding.
fn fixed_plane<'a>(
    plane: &'static str,
    bits: usize,
    bytes: &'a [u8],
) -> Result<(&'a [u8], &'a [u8]), Error> {
    let (found, rest) = bytes
        .split_at_checked(bits.div_ceil(8))
        .ok_or(Error::BodyTooShort { plane })?;
    let padded = found
        .last()
        .is_some_and(|last| !bits.is_multiple_of(8) && last >> (bits % 8) != 0);
    if padded {
        Err(Error::Padding { plane })
    } else {
        Ok((found, rest))
    }
}

/// Checks the kept values of all chunks up to the end of the body. Returns each tile's position.
fn check_kept(
    rice: Rice,
    grid: &Grid,
    scales: &[Scale],
    mut cursor: Cursor<'_>,
) -> Result<Box<[Seek]>, Error> {
    let mut seeks = Vec::with_capacity(grid.tiles().len());
    for tile in grid.tiles() {
        seeks.push(Seek {
            kept: cursor.kept,
            high: cursor.high,
        });
        for number in tile.chunks.clone() {
            let Chunk { keep, length, .. } = grid.chunks()[number];
            if scales[number] == Scale::ZERO {
                continue;
            }
            let end = check_chunk(&mut cursor, rice, keep)
                .ok_or(Error::BodyTooShort { plane: "high" })?;
            if end > length as u64 {
                return Err(Error::IndexOutOfRange {
                    chunk: number,
                    length,
                });
            }
        }
    }
    match fixed_plane("high", cursor.high, cursor.highs)? {
        (_, []) => Ok(seeks.into()),
        (_, rest) => Err(Error::TrailingBytes { extra: rest.len() }),
    }
}

multiversion! {
    /// See [`check`].
    pub(super) fn check_chunk(cursor: &mut Cursor<'_>, rice: Rice, keep: usize) -> Option<u64>
        = check
}
