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
//! before it counts as 0. A difference d is sent in Elias's gamma code as `1 + 2 d`, or as `-2 d` if
//! it is negative. A chunk with the scale zero keeps nothing, and appears in no other plane. Every
//! other chunk keeps exactly the number of values that the settings give.
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
use crate::wide::widest;
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
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The scale of every chunk.
    pub fn scales(&self) -> &[Scale] {
        &self.scales
    }

    /// A reader for the chunks of a tile.
    pub fn tile<'a>(&'a self, number: usize, tile: &Tile) -> TileReader<'a> {
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
    pub fn next<'u>(&mut self, chunk: &Chunk, unpacked: &'u mut Unpacked) -> (f32, &'u [Kept]) {
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

widest! {
    /// See [`check`].
    fn check_chunk(cursor: &mut Cursor<'_>, rice: Rice, keep: usize) -> Option<u64> = check
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SplitMix, layout, settings};
    use proptest::prelude::*;

    /// The scale and the kept values of every chunk.
    type Said = Vec<(Scale, Vec<Kept>)>;

    /// Random values in every chunk; about every fourth chunk has none.
    fn random_values(grid: &Grid, seed: u64) -> Said {
        let mut random = SplitMix(seed);
        let mut said = Said::new();
        for chunk in grid.chunks() {
            if random.below(4) == 0 {
                said.push((Scale::ZERO, Vec::new()));
                continue;
            }
            let scale = Scale::from_number(1 + random.below(255) as u8);
            let mut indices: Vec<u16> = (0..chunk.length as u16).collect();
            for place in 0..chunk.keep {
                indices.swap(place, place + random.below(chunk.length - place));
            }
            indices.truncate(chunk.keep);
            indices.sort_unstable();
            said.push((
                scale,
                indices
                    .into_iter()
                    .map(|index| Kept::new(index, random.below(2) == 1))
                    .collect(),
            ));
        }
        said
    }

    /// The body that encodes `said`.
    fn encode(compression: &Compression, grid: &Grid, said: &Said) -> Vec<u8> {
        let rice = Rice::for_settings(compression);
        let mut records = vec![0; grid.record_words()];
        for ((record, chunk), (scale, kept)) in grid
            .split_records_mut(&mut records)
            .into_iter()
            .zip(grid.chunks())
            .zip(said)
        {
            let shape = Shape::of(rice, chunk.length, chunk.keep);
            record::write(record, rice, shape, *scale, kept.iter().copied());
        }
        assemble(rice, grid, &records)
    }

    /// What a body decodes to, read tile by tile.
    fn said_by(grid: &Grid, body: &Body) -> Said {
        let mut unpacked = Unpacked::default();
        let mut said = Said::new();
        for (number, tile) in grid.tiles().iter().enumerate() {
            let mut reader = body.tile(number, tile);
            for chunk in grid.chunks_of(tile) {
                let scale = body.scales()[said.len()];
                let (value, kept) = reader.next(chunk, &mut unpacked);
                assert_eq!(value, scale.to_f32());
                said.push((scale, kept.to_vec()));
            }
        }
        said
    }

    prop_compose! {
        /// A layout's tensor lengths, and settings.
        fn shapes()(
            lengths in prop::collection::vec(1usize..200, 1..4),
            (chunk, keep) in (1usize..80).prop_flat_map(|chunk| (Just(chunk), 1..=chunk)),
        ) -> (Layout, Compression) {
            (layout(&lengths), settings(chunk, keep))
        }
    }

    /// Decodes `body`, and checks that the result encodes to the same bytes.
    fn decode_canonical(
        layout: &Layout,
        compression: &Compression,
        body: &[u8],
    ) -> Result<Said, Error> {
        let grid = Grid::new(layout, compression).unwrap();
        let said = said_by(&grid, &decode(compression, &grid, body)?);
        assert_eq!(encode(compression, &grid, &said), body);
        Ok(said)
    }

    proptest! {
        #[test]
        fn values_come_back((layout, compression) in shapes(), seed: u64) {
            let grid = Grid::new(&layout, &compression).unwrap();
            let said = random_values(&grid, seed);
            let body = encode(&compression, &grid, &said);
            prop_assert!(body.len() <= max_body_bytes(&layout, &compression).unwrap());
            let decoded = decode_canonical(&layout, &compression, &body).unwrap();
            prop_assert!(decoded == said);
        }

        #[test]
        fn a_changed_byte_is_refused_or_decodes_to_something_else(
            (layout, compression) in shapes(), seed: u64, mask in 1u8..
        ) {
            let grid = Grid::new(&layout, &compression).unwrap();
            let said = random_values(&grid, seed);
            let mut body = encode(&compression, &grid, &said);
            for place in 0..body.len() {
                body[place] ^= mask;
                if let Ok(changed) = decode_canonical(&layout, &compression, &body) {
                    prop_assert!(changed != said);
                }
                body[place] ^= mask;
            }
        }

        #[test]
        fn a_truncated_or_extended_body_is_refused((layout, compression) in shapes(), seed: u64, extra: u8) {
            let grid = Grid::new(&layout, &compression).unwrap();
            let mut body = encode(&compression, &grid, &random_values(&grid, seed));
            for length in 0..body.len() {
                prop_assert!(decode(&compression, &grid, &body[..length]).is_err());
            }
            body.push(extra);
            prop_assert!(decode(&compression, &grid, &body).is_err());
        }

        #[test]
        fn random_bytes_never_panic((layout, compression) in shapes(), mut body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode_canonical(&layout, &compression, &body);
            // Once more with a valid scale plane, to get past it.
            let grid = Grid::new(&layout, &compression).unwrap();
            body.splice(0..0, equal_scales(&grid));
            let _ = decode_canonical(&layout, &compression, &body);
        }
    }

    /// One tensor of 8 values, of which 2 are kept: scale number 3, indices 1 and 6, minus and plus.
    ///
    /// The difference 3 is sent as 7, in gamma code 00111. The Rice parameter is
    /// floor(log2(6 ln 2 / 3)) = 0, so the low plane is empty, and the gaps 1 and 4 are 01 and 00001.
    const BODY: [u8; 3] = [0b11100, 0b01, 0b0100_0010];

    fn refusal(body: &[u8]) -> Error {
        decode_canonical(&layout(&[8]), &settings(8, 2), body)
            .err()
            .unwrap()
    }

    #[test]
    fn a_body_is_its_planes() {
        let said = decode_canonical(&layout(&[8]), &settings(8, 2), &BODY).unwrap();
        assert_eq!(
            said,
            [(
                Scale::from_number(3),
                vec![Kept::new(1, true), Kept::new(6, false)]
            )]
        );
    }

    #[test]
    fn every_plane_is_checked() {
        let [scale, signs, highs] = BODY;
        assert_eq!(refusal(&[]), Error::BodyTooShort { plane: "scale" });
        assert_eq!(refusal(&[scale]), Error::BodyTooShort { plane: "sign" });
        assert_eq!(
            refusal(&[scale, signs]),
            Error::BodyTooShort { plane: "high" }
        );
        assert_eq!(
            refusal(&[scale, signs, 0b10]),
            Error::BodyTooShort { plane: "high" }
        );
        assert_eq!(
            refusal(&[scale, signs, 0b10, 1]),
            Error::IndexOutOfRange {
                chunk: 0,
                length: 8
            }
        );
        assert_eq!(
            refusal(&[scale | 0x20, signs, highs]),
            Error::Padding { plane: "scale" }
        );
        assert_eq!(
            refusal(&[scale, 0b101, highs]),
            Error::Padding { plane: "sign" }
        );
        assert_eq!(
            refusal(&[scale, signs, 0b1100_0010]),
            Error::Padding { plane: "high" }
        );
        assert_eq!(
            refusal(&[scale, signs, highs, 0]),
            Error::TrailingBytes { extra: 1 }
        );
        // The differences -1 and 256, sent as 2 and 513.
        assert_eq!(refusal(&[0b010, signs, highs]), Error::Scale { chunk: 0 });
        assert_eq!(
            refusal(&[0, 0b0000_0110, 0, signs, highs]),
            Error::Scale { chunk: 0 }
        );
    }

    #[test]
    fn the_low_plane_is_checked() {
        // With 1 of 8 values kept the Rice parameter is 1, and the gap 7 is 3 high and 1 low.
        let refusal = |body: &[u8]| decode_canonical(&layout(&[8]), &settings(8, 1), body).err();
        assert_eq!(refusal(&[0b11100, 0, 0b1, 0b1000]), None);
        assert_eq!(
            refusal(&[0b11100, 0]),
            Some(Error::BodyTooShort { plane: "low" })
        );
        assert_eq!(
            refusal(&[0b11100, 0, 0b11, 0b1000]),
            Some(Error::Padding { plane: "low" })
        );
    }

    #[test]
    fn a_chunk_with_the_scale_zero_takes_one_bit() {
        let said = decode_canonical(&layout(&[8]), &settings(8, 2), &[1]).unwrap();
        assert_eq!(said, [(Scale::ZERO, vec![])]);
        assert_eq!(refusal(&[1, 0]), Error::TrailingBytes { extra: 1 });
    }

    /// The scale plane in which every chunk has scale number 1.
    fn equal_scales(grid: &Grid) -> Vec<u8> {
        let mut plane = Vec::new();
        let mut writer = BitWriter::new(&mut plane);
        gamma::put(&mut writer, 3);
        grid.chunks()
            .iter()
            .skip(1)
            .for_each(|_| gamma::put(&mut writer, 1));
        writer.finish();
        plane
    }

    #[test]
    fn scales_that_need_more_bytes_than_present_are_refused() {
        let (layout, compression) = (layout(&[1 << 22]), settings(1 << 15, 1 << 15));
        let grid = Grid::new(&layout, &compression).unwrap();
        let all = |_| {
            (
                Scale::from_number(9),
                (0..1 << 15).map(|index| Kept::new(index, false)).collect(),
            )
        };
        let said: Said = (0..grid.chunks().len()).map(all).collect();
        let body = encode(&compression, &grid, &said);
        assert!(decode(&compression, &grid, &body).is_ok());
        let refused = decode(&compression, &grid, &body[..body.len() - 1]);
        assert_eq!(refused.err(), Some(Error::BodyTooShort { plane: "high" }));
    }

    #[test]
    fn the_longest_body_is_within_the_bound_and_reaches_it() {
        let (layout, compression) = (layout(&[4096]), settings(4096, 64));
        let grid = Grid::new(&layout, &compression).unwrap();
        // The last kept value is the chunk's last, so one gap covers everything that is skipped.
        let kept = (0..63)
            .chain([4095])
            .map(|index| Kept::new(index, false))
            .collect();
        let said = vec![(Scale::from_number(255), kept)];
        let body = encode(&compression, &grid, &said);
        assert_eq!(body.len(), max_body_bytes(&layout, &compression).unwrap());
    }

    #[test]
    fn tiles_are_read_in_any_order() {
        let compression = settings(4096, 64);
        let layout = layout(&[(1 << 18) + 5000, 7, 3 << 18]);
        let grid = Grid::new(&layout, &compression).unwrap();
        assert_eq!(grid.tiles().len(), 6);
        let said = random_values(&grid, 5);
        let body = decode(&compression, &grid, &encode(&compression, &grid, &said)).unwrap();
        let mut unpacked = Unpacked::default();
        for (number, tile) in grid.tiles().iter().enumerate().rev() {
            let mut reader = body.tile(number, tile);
            for chunk in tile.chunks.clone() {
                assert_eq!(
                    reader.next(&grid.chunks()[chunk], &mut unpacked).1,
                    said[chunk].1
                );
            }
        }
    }

    #[test]
    fn wide_vectors_check_the_same() {
        let compression = settings(4096, 64);
        let mut random = SplitMix(1);
        let bytes: Vec<u8> = (0..1 << 16).map(|_| random.below(256) as u8).collect();
        for keep in [1, 2, 63, 64, 1000] {
            let start = Cursor {
                signs: &bytes,
                lows: &bytes,
                highs: &bytes,
                kept: 3,
                high: 5,
            };
            let ends = [check_chunk, check].map(
                |check: fn(&mut Cursor<'_>, Rice, usize) -> Option<u64>| {
                    let mut cursor = start;
                    let ends: Vec<_> = (0..20)
                        .map(|_| check(&mut cursor, Rice::for_settings(&compression), keep))
                        .collect();
                    (ends, cursor.kept, cursor.high)
                },
            );
            assert_eq!(ends[0], ends[1]);
        }
    }

    #[test]
    fn random_indices_cost_about_seven_and_a_half_bits() {
        let (layout, compression) = (layout(&[1 << 20]), settings(4096, 64));
        let grid = Grid::new(&layout, &compression).unwrap();
        let said = random_values(&grid, 1);
        let body = encode(&compression, &grid, &said);
        let sent: usize = said.iter().map(|(_, kept)| kept.len()).sum();
        let scales: u32 = said
            .iter()
            .scan(0, |before, (scale, _)| {
                let difference = i32::from(scale.number())
                    - std::mem::replace(before, i32::from(scale.number()));
                Some(gamma::bits(if difference < 0 {
                    -2 * difference
                } else {
                    1 + 2 * difference
                } as u32))
            })
            .sum();
        let index_bits = (8 * body.len() - scales as usize - sent) as f64 / sent as f64;
        assert!((7.48..7.52).contains(&index_bits), "{index_bits}");
    }
}
