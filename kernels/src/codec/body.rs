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
    // As long as the bytes just read; what is allocated below is as long as the layout says, and only
    // once there are bytes enough for what these scales promise.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SplitMix, layout, settings};
    use proptest::prelude::*;

    /// A random choice of values in every chunk, and every fourth chunk or so without any.
    fn random_planes(grid: &Grid, seed: u64) -> Planes {
        let mut random = SplitMix(seed);
        let mut planes = Planes::zero(grid);
        for (chunk, scale) in grid.chunks().iter().zip(&mut planes.scales) {
            if random.below(4) == 0 {
                continue;
            }
            *scale = Scale::from_bits(1 + random.below(0x7bff) as u16).unwrap();
            let mut indices: Vec<u16> = (0..chunk.length as u16).collect();
            for place in 0..chunk.keep {
                indices.swap(place, place + random.below(chunk.length - place));
            }
            indices.truncate(chunk.keep);
            indices.sort_unstable();
            for (slot, index) in planes.kept[chunk.slots()].iter_mut().zip(indices) {
                *slot = Kept::new(index, random.below(2) == 1);
            }
        }
        planes
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

    /// Decodes; what is accepted must encode to the same bytes.
    fn decode_canonical(layout: &Layout, compression: &Compression, body: &[u8]) -> Result<Planes, Error> {
        let grid = Grid::new(layout, compression).unwrap();
        let planes = decode(compression, &grid, body)?;
        assert_eq!(encode(compression, &grid, &planes), body);
        Ok(planes)
    }

    proptest! {
        #[test]
        fn planes_come_back((layout, compression) in shapes(), seed: u64) {
            let grid = Grid::new(&layout, &compression).unwrap();
            let planes = random_planes(&grid, seed);
            let body = encode(&compression, &grid, &planes);
            prop_assert!(body.len() <= max_body_bytes(&layout, &compression).unwrap());
            let decoded = decode_canonical(&layout, &compression, &body).unwrap();
            prop_assert!(decoded == planes);
        }

        #[test]
        fn a_changed_byte_is_refused_or_says_something_else(
            (layout, compression) in shapes(), seed: u64, mask in 1u8..
        ) {
            let grid = Grid::new(&layout, &compression).unwrap();
            let planes = random_planes(&grid, seed);
            let mut body = encode(&compression, &grid, &planes);
            for place in 0..body.len() {
                body[place] ^= mask;
                if let Ok(changed) = decode_canonical(&layout, &compression, &body) {
                    prop_assert!(changed != planes);
                }
                body[place] ^= mask;
            }
        }

        #[test]
        fn a_body_cut_short_or_drawn_out_is_refused((layout, compression) in shapes(), seed: u64, extra: u8) {
            let grid = Grid::new(&layout, &compression).unwrap();
            let mut body = encode(&compression, &grid, &random_planes(&grid, seed));
            for length in 0..body.len() {
                prop_assert!(decode(&compression, &grid, &body[..length]).is_err());
            }
            body.push(extra);
            prop_assert!(decode(&compression, &grid, &body).is_err());
        }

        #[test]
        fn random_bytes_never_panic((layout, compression) in shapes(), mut body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode_canonical(&layout, &compression, &body);
            // Once more with scales that are all valid, to get past the first plane.
            let chunks = Grid::new(&layout, &compression).unwrap().chunks().len();
            body.iter_mut().take(2 * chunks).skip(1).step_by(2).for_each(|high| *high &= 0x3f);
            let _ = decode_canonical(&layout, &compression, &body);
        }
    }

    /// One tensor of 8 values, of which 2 are kept: scale 1.0; indices 1 and 6; minus, plus.
    ///
    /// The Rice parameter is floor(log2(6 ln 2 / 3)) = 0, so the gaps 1 and 4 are 01 and 00001.
    const BODY: [u8; 4] = [0x00, 0x3c, 0b0100_0010, 0b01];

    fn refusal(body: &[u8]) -> Error {
        decode_canonical(&layout(&[8]), &settings(8, 2), body).err().unwrap()
    }

    #[test]
    fn a_body_is_its_three_planes() {
        let planes = decode_canonical(&layout(&[8]), &settings(8, 2), &BODY).unwrap();
        assert_eq!(planes.scales[0].to_f32(), 1.0);
        assert_eq!(planes.kept, [Kept::new(1, true), Kept::new(6, false)]);
    }

    #[test]
    fn every_plane_is_checked() {
        let [low, high, indices, signs] = BODY;
        assert_eq!(refusal(&[low]), Error::BodyTooShort { plane: "scale" });
        assert_eq!(refusal(&[low, high]), Error::BodyTooShort { plane: "index" });
        assert_eq!(refusal(&[low, high, indices]), Error::BodyTooShort { plane: "sign" });
        assert_eq!(refusal(&[low, high, 0b1000_0000, signs]), Error::IndexOutOfRange { chunk: 0, length: 8 });
        assert_eq!(refusal(&[low, high, 0b1100_0010, signs]), Error::Padding { plane: "index" });
        assert_eq!(refusal(&[low, high, indices, 0b101]), Error::Padding { plane: "sign" });
        assert_eq!(refusal(&[low, high, indices, signs, 0]), Error::TrailingBytes { extra: 1 });
        for scale in [0x7c00u16, 0x7e00, 0x8000, 0xbc00, 0xffff] {
            let [low, high] = scale.to_le_bytes();
            assert_eq!(refusal(&[low, high, indices, signs]), Error::Scale { chunk: 0 });
        }
    }

    #[test]
    fn a_chunk_with_the_scale_zero_takes_two_bytes() {
        let planes = decode_canonical(&layout(&[8]), &settings(8, 2), &[0, 0]).unwrap();
        assert_eq!(planes.scales, [Scale::ZERO]);
        assert_eq!(refusal(&[0, 0, 0]), Error::TrailingBytes { extra: 1 });
    }

    #[test]
    fn scales_that_ask_for_more_than_there_is_are_refused() {
        let (layout, compression) = (layout(&[1 << 22]), settings(1 << 15, 1 << 15));
        let grid = Grid::new(&layout, &compression).unwrap();
        // The least that so many values can take: a bit for the gap and one for the sign.
        let least = grid.kept() / 4;
        let mut body = [0xff, 0x3b].repeat(grid.chunks().len());
        body.resize(body.len() + least - 1, 0xff);
        let refused = decode(&compression, &grid, &body);
        assert_eq!(refused.err(), Some(Error::BodyTooShort { plane: "index" }));
        body.push(0xff);
        assert!(decode(&compression, &grid, &body).is_ok());
    }

    #[test]
    fn the_longest_body_is_within_the_bound_and_reaches_it() {
        let (layout, compression) = (layout(&[4096]), Compression::default());
        let grid = Grid::new(&layout, &compression).unwrap();
        // One value at the end: all that is passed over is in one gap.
        let kept = (0..63).chain([4095]).map(|index| Kept::new(index, false)).collect();
        let planes = Planes { scales: vec![Scale::from_bits(1).unwrap()], kept };
        let body = encode(&compression, &grid, &planes);
        assert_eq!(body.len(), max_body_bytes(&layout, &compression).unwrap());
    }

    #[test]
    fn random_indices_cost_about_seven_and_a_half_bits() {
        let (layout, compression) = (layout(&[1 << 20]), Compression::default());
        let grid = Grid::new(&layout, &compression).unwrap();
        let planes = random_planes(&grid, 1);
        let body = encode(&compression, &grid, &planes);
        let sent: usize = planes.sent(&grid).map(|(_, kept)| kept.len()).sum();
        let scale_bits = 16 * grid.chunks().len();
        let index_bits = (8 * body.len() - scale_bits - sent) as f64 / sent as f64;
        assert!((7.48..7.52).contains(&index_bits), "{index_bits}");
    }
}
