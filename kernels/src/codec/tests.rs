//! Tests of the body: round trips, and refusal of everything that is not canonical.

use super::bits::BitWriter;
use super::body::{Body, assemble, check_chunk, decode, max_body_bytes};
use super::gamma;
use super::record::{self, Shape};
use super::rice::Rice;
use super::unpack::{Cursor, Unpacked, check};
use crate::grid::Grid;
use crate::quantise::{Kept, Scale};
use crate::testing::{layout, settings};
use crate::{Compression, Error, Layout};
use proptest::prelude::*;
use weal_testing::SplitMix64;

/// The scale and the kept values of every chunk.
type Contents = Vec<(Scale, Vec<Kept>)>;

/// Random values in every chunk; about every fourth chunk has none.
fn random_values(grid: &Grid, seed: u64) -> Contents {
    let mut random = SplitMix64(seed);
    let mut contents = Contents::new();
    for chunk in grid.chunks() {
        if random.below(4) == 0 {
            contents.push((Scale::ZERO, Vec::new()));
            continue;
        }
        let scale = Scale::from_number(1 + random.below(255) as u8);
        let mut indices: Vec<u16> = (0..chunk.length as u16).collect();
        for place in 0..chunk.keep {
            indices.swap(place, place + random.below(chunk.length - place));
        }
        indices.truncate(chunk.keep);
        indices.sort_unstable();
        contents.push((
            scale,
            indices
                .into_iter()
                .map(|index| Kept::new(index, random.below(2) == 1))
                .collect(),
        ));
    }
    contents
}

/// The body that encodes `contents`.
fn encode(compression: &Compression, grid: &Grid, contents: &Contents) -> Vec<u8> {
    let rice = Rice::for_settings(compression);
    let mut records = vec![0; grid.record_words()];
    for ((record, chunk), (scale, kept)) in grid
        .split_records_mut(&mut records)
        .into_iter()
        .zip(grid.chunks())
        .zip(contents)
    {
        let shape = Shape::of(rice, chunk.length, chunk.keep);
        record::write(record, rice, shape, *scale, kept.iter().copied());
    }
    assemble(rice, grid, &records)
}

/// What a body decodes to, read tile by tile.
fn contents_of(grid: &Grid, body: &Body) -> Contents {
    let mut unpacked = Unpacked::default();
    let mut contents = Contents::new();
    for (number, tile) in grid.tiles().iter().enumerate() {
        let mut reader = body.tile(number, tile);
        for chunk in grid.chunks_of(tile) {
            let scale = body.scales()[contents.len()];
            let (value, kept) = reader.next(chunk, &mut unpacked);
            assert_eq!(value, scale.to_f32());
            contents.push((scale, kept.to_vec()));
        }
    }
    contents
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
) -> Result<Contents, Error> {
    let grid = Grid::new(layout, compression).unwrap();
    let contents = contents_of(&grid, &decode(compression, &grid, body)?);
    assert_eq!(encode(compression, &grid, &contents), body);
    Ok(contents)
}

proptest! {
    #[test]
    fn values_come_back((layout, compression) in shapes(), seed: u64) {
        let grid = Grid::new(&layout, &compression).unwrap();
        let contents = random_values(&grid, seed);
        let body = encode(&compression, &grid, &contents);
        prop_assert!(body.len() <= max_body_bytes(&layout, &compression).unwrap());
        let decoded = decode_canonical(&layout, &compression, &body).unwrap();
        prop_assert!(decoded == contents);
    }

    #[test]
    fn a_changed_byte_is_refused_or_decodes_to_something_else(
        (layout, compression) in shapes(), seed: u64, mask in 1u8..
    ) {
        let grid = Grid::new(&layout, &compression).unwrap();
        let contents = random_values(&grid, seed);
        let mut body = encode(&compression, &grid, &contents);
        for place in 0..body.len() {
            body[place] ^= mask;
            if let Ok(changed) = decode_canonical(&layout, &compression, &body) {
                prop_assert!(changed != contents);
            }
            body[place] ^= mask;
        }
    }

    #[test]
    fn a_truncated_or_extended_body_is_refused(
        (layout, compression) in shapes(), seed: u64, extra: u8
    ) {
        let grid = Grid::new(&layout, &compression).unwrap();
        let mut body = encode(&compression, &grid, &random_values(&grid, seed));
        for length in 0..body.len() {
            prop_assert!(decode(&compression, &grid, &body[..length]).is_err());
        }
        body.push(extra);
        prop_assert!(decode(&compression, &grid, &body).is_err());
    }

    #[test]
    fn random_bytes_never_panic(
        (layout, compression) in shapes(),
        mut body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
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
    let contents = decode_canonical(&layout(&[8]), &settings(8, 2), &BODY).unwrap();
    assert_eq!(
        contents,
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
    let contents = decode_canonical(&layout(&[8]), &settings(8, 2), &[1]).unwrap();
    assert_eq!(contents, [(Scale::ZERO, vec![])]);
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
    let contents: Contents = (0..grid.chunks().len()).map(all).collect();
    let body = encode(&compression, &grid, &contents);
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
    let contents = vec![(Scale::from_number(255), kept)];
    let body = encode(&compression, &grid, &contents);
    assert_eq!(body.len(), max_body_bytes(&layout, &compression).unwrap());
}

#[test]
fn tiles_are_read_in_any_order() {
    let compression = settings(4096, 64);
    let layout = layout(&[(1 << 18) + 5000, 7, 3 << 18]);
    let grid = Grid::new(&layout, &compression).unwrap();
    assert_eq!(grid.tiles().len(), 6);
    let contents = random_values(&grid, 5);
    let body = decode(&compression, &grid, &encode(&compression, &grid, &contents)).unwrap();
    let mut unpacked = Unpacked::default();
    for (number, tile) in grid.tiles().iter().enumerate().rev() {
        let mut reader = body.tile(number, tile);
        for chunk in tile.chunks.clone() {
            assert_eq!(
                reader.next(&grid.chunks()[chunk], &mut unpacked).1,
                contents[chunk].1
            );
        }
    }
}

#[test]
fn avx2_checks_the_same() {
    let compression = settings(4096, 64);
    let mut random = SplitMix64(1);
    let bytes: Vec<u8> = (0..1 << 16).map(|_| random.below(256) as u8).collect();
    for keep in [1, 2, 63, 64, 1000] {
        let start = Cursor {
            signs: &bytes,
            lows: &bytes,
            highs: &bytes,
            kept: 3,
            high: 5,
        };
        let ends =
            [check_chunk, check].map(|check: fn(&mut Cursor<'_>, Rice, usize) -> Option<u64>| {
                let mut cursor = start;
                let ends: Vec<_> = (0..20)
                    .map(|_| check(&mut cursor, Rice::for_settings(&compression), keep))
                    .collect();
                (ends, cursor.kept, cursor.high)
            });
        assert_eq!(ends[0], ends[1]);
    }
}

#[test]
fn random_indices_cost_about_seven_and_a_half_bits() {
    let (layout, compression) = (layout(&[1 << 20]), settings(4096, 64));
    let grid = Grid::new(&layout, &compression).unwrap();
    let contents = random_values(&grid, 1);
    let body = encode(&compression, &grid, &contents);
    let sent: usize = contents.iter().map(|(_, kept)| kept.len()).sum();
    let scales: u32 = contents
        .iter()
        .scan(0, |before, (scale, _)| {
            let difference =
                i32::from(scale.number()) - std::mem::replace(before, i32::from(scale.number()));
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
