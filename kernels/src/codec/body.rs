//! The body: four planes, one after another, with nothing between or after them.
//!
//! | plane | content | length |
//! |---|---|---|
//! | scale | for every chunk of the layout, how its scale's number differs from that of the chunk before | to a whole byte |
//! | sign | a bit for every kept value, in order, 1 for negative | to a whole byte |
//! | low | the low bits of every kept value's gap, in order | to a whole byte |
//! | high | the high bits of every kept value's gap, in unary, in order | to a whole byte |
//!
//! The first chunk's scale is told as if the one before had the number 0. A difference d is sent in Elias's gamma code as
//! `1 + 2 d`, or `-2 d` where it is negative. A chunk with the scale zero keeps nothing: it appears in none of the other
//! planes. All other chunks keep exactly as many values as the settings say. Padding bits are zero.
//!
//! So every body that decodes is the only encoding of what it decodes to: gaps and signs are free,
//! and everything else is fixed. And no length travels: each follows from the layout and from the
//! bytes already read, and is compared with the bytes there are before anything is allocated.

use super::bits::{BitReader, BitWriter, Ones};
use super::gamma;
use super::rice::Rice;
use crate::grid::{Chunk, Grid};
use crate::quantise::{Kept, Scale};
use crate::wide::widest;
use crate::{Compression, Error, Layout};

/// The most bits of a scale: a difference of 255.
const MOST_SCALE_BITS: usize = 17;
/// Signs written at a time.
const SIGN_BATCH: usize = 32;
/// Kept values read at a time.
const BATCH: usize = 8;

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
    let most_bits = |chunk: &Chunk| rice.most_high_bits(chunk.keep, chunk.length - chunk.keep);
    let high_bits: usize = grid.chunks().iter().map(most_bits).sum();
    let low_bits = grid.kept() * rice.low_bits() as usize;
    let planes = [grid.chunks().len() * MOST_SCALE_BITS, grid.kept(), low_bits, high_bits];
    Ok(planes.map(|bits| bits.div_ceil(8)).iter().sum())
}

/// The body's bytes.
pub(crate) fn encode(compression: &Compression, grid: &Grid, planes: &Planes) -> Vec<u8> {
    let rice = Rice::for_settings(compression);
    // Right for random indices, and only a first guess for others.
    let mut body = Vec::with_capacity(planes.scales.len() + grid.kept() * 9 / 8);

    let mut scales = BitWriter::new(&mut body);
    let mut before = 0;
    for scale in &planes.scales {
        let difference = i32::from(scale.number()) - before;
        gamma::put(&mut scales, if difference < 0 { -2 * difference } else { 1 + 2 * difference } as u32);
        before += difference;
    }
    scales.finish();

    let mut signs = BitWriter::new(&mut body);
    for (_, kept) in planes.sent(grid) {
        for batch in kept.chunks(SIGN_BATCH) {
            let bits = batch.iter().rev().fold(0, |bits, value| bits << 1 | u32::from(value.is_negative()));
            signs.put(bits, batch.len() as u32);
        }
    }
    signs.finish();

    let mut lows = BitWriter::new(&mut body);
    for_every_gap(planes, grid, |gap| rice.put_low(&mut lows, gap));
    lows.finish();
    let mut highs = BitWriter::new(&mut body);
    for_every_gap(planes, grid, |gap| rice.put_high(&mut highs, gap));
    highs.finish();
    body
}

fn for_every_gap(planes: &Planes, grid: &Grid, mut put: impl FnMut(u32)) {
    for (_, kept) in planes.sent(grid) {
        let mut next = 0;
        for value in kept {
            put((value.index() - next) as u32);
            next = value.index() + 1;
        }
    }
}

/// Reads a body from a stranger.
///
/// # Errors
/// Everything that makes it another byte string than [`encode`] would have written.
pub(crate) fn decode(compression: &Compression, grid: &Grid, body: &[u8]) -> Result<Planes, Error> {
    let rice = Rice::for_settings(compression);
    // What is allocated is as long as the layout says, and only once there are bytes enough for it.
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
    let mut planes = Planes { scales, kept: vec![Kept::default(); grid.kept()] };
    let from = KeptPlanes { signs: BitReader::new(signs), lows: BitReader::new(lows), highs: Ones::new(highs) };
    decode_kept(rice, grid, &mut planes, from)?;
    Ok(planes)
}

/// Reads the scale plane; returns the bytes after it, too.
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
        let told = gamma::take(&mut reader).ok_or(too_short.clone())? as i32;
        let difference = if told % 2 == 0 { -(told / 2) } else { told / 2 };
        let number = u8::try_from(before + difference).map_err(|_| Error::Scale { chunk })?;
        scales.push(Scale::from_number(number));
        before = i32::from(number);
    }
    match reader.finish() {
        (rest, true) => Ok((scales, rest)),
        (_, false) => Err(Error::Padding { plane: "scale" }),
    }
}

/// Cuts a plane of that many bits off the bytes, and checks its padding.
fn fixed_plane<'a>(plane: &'static str, bits: usize, bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Error> {
    let (found, rest) = bytes.split_at_checked(bits.div_ceil(8)).ok_or(Error::BodyTooShort { plane })?;
    let padded = found.last().is_some_and(|last| !bits.is_multiple_of(8) && last >> (bits % 8) != 0);
    if padded { Err(Error::Padding { plane }) } else { Ok((found, rest)) }
}

/// The planes of kept values: their lengths are right, as far as they follow from the scales.
struct KeptPlanes<'a> {
    signs: BitReader<'a>,
    lows: BitReader<'a>,
    highs: Ones<'a>,
}

/// Reads the kept values of all chunks that are sent, to the end of the body.
fn decode_kept(rice: Rice, grid: &Grid, planes: &mut Planes, mut from: KeptPlanes<'_>) -> Result<(), Error> {
    for (number, chunk) in grid.chunks().iter().enumerate() {
        if planes.scales[number] == Scale::ZERO {
            continue;
        }
        let end = decode_chunk(rice, &mut from, &mut planes.kept[chunk.slots()]);
        if end.ok_or(Error::BodyTooShort { plane: "high" })? > chunk.length as u64 {
            return Err(Error::IndexOutOfRange { chunk: number, length: chunk.length });
        }
    }
    match from.highs.finish() {
        ([], true) => Ok(()),
        (_, false) => Err(Error::Padding { plane: "high" }),
        (rest, true) => Err(Error::TrailingBytes { extra: rest.len() }),
    }
}

widest! {
    /// Reads a chunk's kept values, and returns what is one past the last index: it may be past the chunk, but not past
    /// 2^64, as no plane has so many bits. `None` where the high plane ends.
    fn decode_chunk(rice: Rice, from: &mut KeptPlanes<'_>, kept: &mut [Kept]) -> Option<u64> = decode_values
}

#[inline(always)]
fn decode_values(rice: Rice, from: &mut KeptPlanes<'_>, kept: &mut [Kept]) -> Option<u64> {
    let mut end = 0;
    for batch in kept.chunks_mut(BATCH) {
        let mut negative = from.signs.window();
        from.signs.advance(batch.len() as u32);
        let mut lows = [0; BATCH];
        from.lows.take_each(rice.low_bits(), &mut lows[..batch.len()]);
        for (slot, low) in batch.iter_mut().zip(lows) {
            let index = end + rice.gap(from.highs.zeros()?, low);
            *slot = Kept::new(index as u16 & Kept::MOST, negative & 1 == 1);
            negative >>= 1;
            end = index + 1;
        }
    }
    Some(end)
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
            *scale = Scale::from_number(1 + random.below(255) as u8);
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
            // Once more with scales that are all alike, to get past the first plane.
            let grid = Grid::new(&layout, &compression).unwrap();
            body.splice(0..0, scales_alike(&grid));
            let _ = decode_canonical(&layout, &compression, &body);
        }
    }

    /// One tensor of 8 values, of which 2 are kept: the scale of number 3; indices 1 and 6; minus, plus.
    ///
    /// The scale is 3 more than 0, and 7 in gamma is 00111. The Rice parameter is floor(log2(6 ln 2 / 3)) = 0, so there is
    /// no low plane, and the gaps 1 and 4 are 01 and 00001.
    const BODY: [u8; 3] = [0b11100, 0b01, 0b0100_0010];

    fn refusal(body: &[u8]) -> Error {
        decode_canonical(&layout(&[8]), &settings(8, 2), body).err().unwrap()
    }

    #[test]
    fn a_body_is_its_planes() {
        let planes = decode_canonical(&layout(&[8]), &settings(8, 2), &BODY).unwrap();
        assert_eq!(planes.scales[0].number(), 3);
        assert_eq!(planes.kept, [Kept::new(1, true), Kept::new(6, false)]);
    }

    #[test]
    fn every_plane_is_checked() {
        let [scale, signs, highs] = BODY;
        assert_eq!(refusal(&[]), Error::BodyTooShort { plane: "scale" });
        assert_eq!(refusal(&[scale]), Error::BodyTooShort { plane: "sign" });
        assert_eq!(refusal(&[scale, signs]), Error::BodyTooShort { plane: "high" });
        assert_eq!(refusal(&[scale, signs, 0b10]), Error::BodyTooShort { plane: "high" });
        assert_eq!(refusal(&[scale, signs, 0b10, 1]), Error::IndexOutOfRange { chunk: 0, length: 8 });
        assert_eq!(refusal(&[scale | 0x20, signs, highs]), Error::Padding { plane: "scale" });
        assert_eq!(refusal(&[scale, 0b101, highs]), Error::Padding { plane: "sign" });
        assert_eq!(refusal(&[scale, signs, 0b1100_0010]), Error::Padding { plane: "high" });
        assert_eq!(refusal(&[scale, signs, highs, 0]), Error::TrailingBytes { extra: 1 });
        // One less than 0, in gamma 2; 256 more than 0, in gamma 513.
        assert_eq!(refusal(&[0b010, signs, highs]), Error::Scale { chunk: 0 });
        assert_eq!(refusal(&[0, 0b0000_0110, 0, signs, highs]), Error::Scale { chunk: 0 });
    }

    #[test]
    fn the_low_plane_is_checked() {
        // Of 8 values 1 is kept: the Rice parameter is 1, and the gap 7 is 3 and 1.
        let refusal = |body: &[u8]| decode_canonical(&layout(&[8]), &settings(8, 1), body).err();
        assert_eq!(refusal(&[0b11100, 0, 0b1, 0b1000]), None);
        assert_eq!(refusal(&[0b11100, 0]), Some(Error::BodyTooShort { plane: "low" }));
        assert_eq!(refusal(&[0b11100, 0, 0b11, 0b1000]), Some(Error::Padding { plane: "low" }));
    }

    #[test]
    fn a_chunk_with_the_scale_zero_takes_a_bit() {
        let planes = decode_canonical(&layout(&[8]), &settings(8, 2), &[1]).unwrap();
        assert_eq!(planes.scales, [Scale::ZERO]);
        assert_eq!(refusal(&[1, 0]), Error::TrailingBytes { extra: 1 });
    }

    /// The scale plane in which every chunk has the scale of number 1.
    fn scales_alike(grid: &Grid) -> Vec<u8> {
        let mut plane = Vec::new();
        let mut writer = BitWriter::new(&mut plane);
        gamma::put(&mut writer, 3);
        grid.chunks().iter().skip(1).for_each(|_| gamma::put(&mut writer, 1));
        writer.finish();
        plane
    }

    #[test]
    fn scales_that_ask_for_more_than_there_is_are_refused() {
        let (layout, compression) = (layout(&[1 << 22]), settings(1 << 15, 1 << 15));
        let grid = Grid::new(&layout, &compression).unwrap();
        let mut planes = Planes::zero(&grid);
        planes.scales.fill(Scale::from_number(9));
        planes.kept = (0..grid.kept()).map(|slot| Kept::new((slot % (1 << 15)) as u16, false)).collect();
        let body = encode(&compression, &grid, &planes);
        assert!(decode(&compression, &grid, &body).is_ok());
        let refused = decode(&compression, &grid, &body[..body.len() - 1]);
        assert_eq!(refused.err(), Some(Error::BodyTooShort { plane: "high" }));
    }

    #[test]
    fn the_longest_body_is_within_the_bound_and_reaches_it() {
        let (layout, compression) = (layout(&[4096]), Compression::default());
        let grid = Grid::new(&layout, &compression).unwrap();
        // One value at the end: all that is passed over is in one gap.
        let kept = (0..63).chain([4095]).map(|index| Kept::new(index, false)).collect();
        let planes = Planes { scales: vec![Scale::from_number(255)], kept };
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
        let scales: u32 = planes
            .scales
            .iter()
            .scan(0, |before, scale| {
                let difference = i32::from(scale.number()) - std::mem::replace(before, i32::from(scale.number()));
                Some(gamma::bits(if difference < 0 { -2 * difference } else { 1 + 2 * difference } as u32))
            })
            .sum();
        let index_bits = (8 * body.len() - scales as usize - sent) as f64 / sent as f64;
        assert!((7.48..7.52).contains(&index_bits), "{index_bits}");
    }
}
