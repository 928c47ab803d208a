//! Decodes indices and signs, several at a time.
//!
//! The i-th gap of a chunk, from 0, is h_i 2^r + l_i. In the high plane, the one that ends h_i is
//! at position p_i = h_0 + … + h_i + i from the chunk's first bit. The i-th index is the sum of the
//! gaps up to and including the i-th, plus i:
//!
//! ```text
//! index_i = (p_i - i) 2^r + (l_0 + … + l_i) + i
//! ```
//!
//! Only the sum of the low bits depends on earlier indices. So a first pass collects the positions
//! of the ones, a word of bits at a time. A second pass computes four indices at a time in the four
//! 16-bit lanes of a 64-bit word: one multiplication by 2^48 + 2^32 + 2^16 + 1 gives the prefix
//! sums of the lanes, another spreads four signs over them. (Every processor has 64-bit words, but
//! not every one has vectors; see Knuth, The Art of Computer Programming, 7.1.3.)

use super::bits::{MOST_IN_WINDOW, window_at};
use super::rice::Rice;
use crate::grid::MAX_CHUNK;
use crate::quantise::Kept;

/// Values per word.
const LANES: usize = 4;
/// A one in every lane.
const ONES: u64 = 0x0001_0001_0001_0001;
/// The number of each lane, in that lane.
const IOTA: u64 = 0x0003_0002_0001_0000;
/// Bits of the high plane scanned at a time.
const WINDOW: usize = 56;
/// Positions of ones written at a time: two words of them.
const BATCH: usize = 2 * LANES;
/// Groups of values whose signs are loaded at a time.
const GROUPS_OF_SIGNS: usize = 8;

/// A position in the planes of kept values, at the start of a chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    /// The sign plane.
    pub signs: &'a [u8],
    /// The low plane.
    pub lows: &'a [u8],
    /// The high plane.
    pub highs: &'a [u8],
    /// Kept values before the chunk.
    pub kept: usize,
    /// Bits of the high plane before the chunk.
    pub high: usize,
}

/// A buffer for a chunk's kept values, reused between chunks.
pub(crate) struct Unpacked {
    find_ones: FindOnes,
    places: Box<Places>,
    kept: Box<[Kept; MAX_CHUNK + LANES]>,
}

/// Positions of ones in the high plane, relative to the chunk's first bit, and room for some that
/// belong to the next chunk.
type Places = [u16; MAX_CHUNK + 2 * 64];

/// [`places_of_ones`], or a faster equivalent on this processor.
type FindOnes = fn(&[u8], usize, usize, &mut Places) -> usize;

impl Default for Unpacked {
    fn default() -> Self {
        let find_ones = avx512::places_of_ones().unwrap_or(places_of_ones);
        Self {
            find_ones,
            places: Box::new([0; _]),
            kept: Box::new([Kept::default(); _]),
        }
    }
}

/// Decodes a chunk of `keep` values that has passed [`check`], and advances to the next.
#[inline(always)]
pub(crate) fn unpack<'u>(
    cursor: &mut Cursor<'_>,
    rice: Rice,
    keep: usize,
    unpacked: &'u mut Unpacked,
) -> &'u [Kept] {
    let Unpacked {
        find_ones,
        places,
        kept,
    } = unpacked;
    let high_bits = find_ones(cursor.highs, cursor.high, keep, places);
    let (mut low_sum, mut numbers, mut signs) = (0, IOTA, 0);
    let groups = kept
        .as_chunks_mut::<LANES>()
        .0
        .iter_mut()
        .zip(places.as_chunks::<LANES>().0);
    for (group, (kept, places)) in groups.take(keep.div_ceil(LANES)).enumerate() {
        if group % GROUPS_OF_SIGNS == 0 {
            signs = window_at(cursor.signs, cursor.kept + LANES * group);
        }
        let lows = spread(
            window_at(
                cursor.lows,
                (cursor.kept + LANES * group) * rice.low_bits() as usize,
            ),
            rice,
        );
        let sums = lows
            .wrapping_mul(ONES)
            .wrapping_add(ONES.wrapping_mul(low_sum));
        low_sum = sums >> 48;
        let highs = lanes(*places).wrapping_sub(numbers) << rice.low_bits();
        let indices = highs.wrapping_add(sums).wrapping_add(numbers);
        *kept = Kept::from_lanes(indices, spread_signs(signs));
        numbers = numbers.wrapping_add(ONES * LANES as u64);
        signs >>= LANES;
    }
    cursor.kept += keep;
    cursor.high += high_bits;
    &kept[..keep]
}

/// Checks that a chunk's bits give `keep` indices, and advances to the next chunk. Returns the last
/// index plus one. It may be past the chunk's end, but fits 64 bits because no plane is long enough
/// to exceed them. Returns `None` if the high plane ends early.
#[inline(always)]
pub(crate) fn check(cursor: &mut Cursor<'_>, rice: Rice, keep: usize) -> Option<u64> {
    let high_bits = place_of_last_one(cursor.highs, cursor.high, keep)? + 1;
    let mut low_sum = 0;
    for first in (0..keep).step_by(LANES) {
        let window = window_at(
            cursor.lows,
            (cursor.kept + first) * rice.low_bits() as usize,
        );
        let ours = (keep - first).min(LANES) as u32 * rice.low_bits();
        low_sum += spread(window & ((1 << ours) - 1), rice).wrapping_mul(ONES) >> 48;
    }
    cursor.kept += keep;
    cursor.high += high_bits;
    Some((((high_bits - keep) as u64) << rice.low_bits()) + low_sum + keep as u64)
}

/// Collects the positions of the first `count` ones from bit `start` on. Returns the number of bits
/// up to the last of them.
fn places_of_ones(bytes: &[u8], start: usize, count: usize, places: &mut Places) -> usize {
    let (mut found, mut base) = (0, 0);
    while found < count && start + base < 8 * bytes.len() {
        let mut word = window_at(bytes, start + base) & ((1 << WINDOW) - 1);
        let ones = word.count_ones() as usize;
        // A few surplus positions are written, so that the number of iterations is predictable.
        for slots in places[found..found + ones.next_multiple_of(BATCH)]
            .as_chunks_mut::<LANES>()
            .0
        {
            let four = ONES
                .wrapping_mul(base as u64)
                .wrapping_add(take_four(&mut word));
            *slots = from_lanes(four);
        }
        found += ones;
        base += WINDOW;
    }
    usize::from(places[count - 1]) + 1
}

/// Clears the lowest four ones of a word, and returns their positions in four lanes.
#[inline(always)]
fn take_four(word: &mut u64) -> u64 {
    let mut take = || {
        let place = word.trailing_zeros().into();
        *word &= word.wrapping_sub(1);
        place
    };
    let [a, b, c, d]: [u64; LANES] = [take(), take(), take(), take()];
    a | b << 16 | c << 32 | d << 48
}

/// The same with AVX-512's byte compression: a mask selects among the numbers 0 to 63.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi16, _mm512_castsi512_si256, _mm512_cvtepu8_epi16,
        _mm512_extracti64x4_epi64, _mm512_maskz_compress_epi8, _mm512_set1_epi16,
    };

    use super::{FindOnes, Places, WINDOW, window_at};

    /// The function, if the processor has the instructions.
    pub(super) fn places_of_ones() -> Option<FindOnes> {
        let can = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("popcnt");
        // SAFETY: the processor has all features that `compress` enables.
        #[allow(unsafe_code)]
        can.then_some(|bytes, start, count, places| unsafe {
            compress(bytes, start, count, places)
        })
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
    fn compress(bytes: &[u8], start: usize, count: usize, places: &mut Places) -> usize {
        let all: [u8; 64] = std::array::from_fn(|number| number as u8);
        let (mut found, mut base) = (0, 0);
        while found < count && start + base < 8 * bytes.len() {
            let word = window_at(bytes, start + base) & ((1 << WINDOW) - 1);
            let numbers = _mm512_maskz_compress_epi8(word, from_bytes(all));
            let ones = word.count_ones() as usize;
            let base_16 = _mm512_set1_epi16(base as i16);
            let low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(numbers));
            places[found..found + HALF].copy_from_slice(&to_lanes(_mm512_add_epi16(low, base_16)));
            if ones > HALF {
                let high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(numbers));
                places[found + HALF..found + 2 * HALF]
                    .copy_from_slice(&to_lanes(_mm512_add_epi16(high, base_16)));
            }
            found += ones;
            base += WINDOW;
        }
        usize::from(places[count - 1]) + 1
    }

    /// 16-bit lanes per vector.
    const HALF: usize = 32;

    #[inline(always)]
    fn from_bytes(bytes: [u8; 64]) -> __m512i {
        // SAFETY: both types have the same size, and every bit pattern is valid in both.
        #[allow(unsafe_code)]
        unsafe {
            std::mem::transmute(bytes)
        }
    }

    #[inline(always)]
    fn to_lanes(vector: __m512i) -> [u16; HALF] {
        // SAFETY: both types have the same size, and every bit pattern is valid in both.
        #[allow(unsafe_code)]
        unsafe {
            std::mem::transmute(vector)
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod avx512 {
    pub(super) fn places_of_ones() -> Option<super::FindOnes> {
        None
    }
}

/// The position of the `count`-th one from bit `start` on; `None` if there are fewer.
#[inline(always)]
fn place_of_last_one(bytes: &[u8], start: usize, count: usize) -> Option<usize> {
    let (mut left, mut base) = (count as u32, 0);
    while start + base < 8 * bytes.len() {
        let mut word = window_at(bytes, start + base) & ((1 << WINDOW) - 1);
        let ones = word.count_ones();
        if left <= ones {
            (1..left).for_each(|_| word &= word - 1);
            return Some(base + word.trailing_zeros() as usize);
        }
        left -= ones;
        base += WINDOW;
    }
    None
}

/// Spreads four adjacent numbers of r bits to one lane each.
#[inline(always)]
fn spread(packed: u64, rice: Rice) -> u64 {
    let bits = rice.low_bits();
    const { assert!(LANES * Rice::MOST_LOW_BITS as usize <= MOST_IN_WINDOW) };
    let (pair, each) = (
        (1 << (2 * bits)) - 1,
        0x0000_0001_0000_0001 * ((1 << bits) - 1),
    );
    let pairs = (packed & pair) | (packed >> (2 * bits) & pair) << 32;
    (pairs & each) | (pairs >> bits & each) << 16
}

/// Spreads the lowest four bits to the highest bit of one lane each.
#[inline(always)]
fn spread_signs(bits: u64) -> u64 {
    const HIGHEST: u64 = ONES << 15;
    ((bits & 0xf) * (1 << 15 | 1 << 30 | 1 << 45 | 1 << 60)) & HIGHEST
}

#[inline(always)]
fn from_lanes(word: u64) -> [u16; LANES] {
    [word, word >> 16, word >> 32, word >> 48].map(|lane| lane as u16)
}

#[inline(always)]
fn lanes(values: [u16; LANES]) -> u64 {
    let [a, b, c, d] = values.map(u64::from);
    a | b << 16 | c << 32 | d << 48
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weal_testing::SplitMix64;

    proptest! {
        #[test]
        fn ones_are_found_at_any_position(seed: u64, density in 1usize..64, start in 0usize..100) {
            let mut random = SplitMix64(seed);
            let mut bit = |bit| u8::from(random.below(density) == 0) << bit;
            let mut byte = || (0..8).fold(0, |byte, place| byte | bit(place));
            let bytes: Vec<u8> = (0..1000).map(|_| byte()).collect();
            let is_one = |place: &usize| {
                let place = start + place;
                bytes[place / 8] >> (place % 8) & 1 == 1
            };
            let ones = (0..8000 - start).filter(is_one);
            let expected: Vec<u16> = ones.map(|place| place as u16).collect();
            let ways = [Some(places_of_ones as FindOnes), avx512::places_of_ones()];
            for find in ways.into_iter().flatten() {
                let mut places = Box::new([0; _]);
                for count in [1, expected.len().div_ceil(3), expected.len()] {
                    if let Some(last) = count.checked_sub(1).and_then(|last| expected.get(last)) {
                        let end = usize::from(*last) + 1;
                        prop_assert_eq!(find(&bytes, start, count, &mut places), end);
                        prop_assert_eq!(&places[..count], &expected[..count]);
                        let found = place_of_last_one(&bytes, start, count);
                        prop_assert_eq!(found, Some(usize::from(*last)));
                    }
                }
            }
            prop_assert_eq!(place_of_last_one(&bytes, start, expected.len() + 1), None);
        }

        #[test]
        fn numbers_are_spread_to_lanes(numbers: [u64; LANES], keep in 1usize..=32768, rest: u64) {
            let rice = Rice::for_settings(&crate::testing::settings(32768, keep));
            let bits = rice.low_bits();
            let numbers = numbers.map(|number| number & ((1 << bits) - 1));
            let shifted = |lane: usize| numbers[lane] << (lane as u32 * bits);
            let packed = (0..LANES).fold(0, |packed, lane| packed | shifted(lane));
            let rest = rest.checked_shl(LANES as u32 * bits).unwrap_or(0);
            let expected = lanes(numbers.map(|number| number as u16));
            prop_assert_eq!(spread(packed | rest, rice), expected);
        }
    }

    #[test]
    fn signs_are_spread_to_the_highest_bits() {
        for bits in 0..256u64 {
            let expected = (0..4).fold(0, |word, lane| {
                word | (bits >> lane & 1) << (16 * lane + 15)
            });
            assert_eq!(spread_signs(bits), expected);
        }
    }
}
