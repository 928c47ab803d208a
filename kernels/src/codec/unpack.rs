//! From bits to indices, several at a time.
//!
//! The i-th gap of a chunk, from 0, is h_i 2^r + l_i. In the high plane the one that ends h_i
//! stands at the place p_i = h_0 + … + h_i + i from the chunk's first bit, and the i-th index is
//! the sum of the gaps up to there, and i:
//!
//! ```text
//! index_i = (p_i - i) 2^r + (l_0 + … + l_i) + i
//! ```
//!
//! Nothing in it waits for the index before, but the sum of the low bits. So first the places of
//! the ones are written down, a word of bits at a time; then four indices at a time are computed in
//! the four 16-bit lanes of a 64-bit word: a multiplication by 2^48 + 2^32 + 2^16 + 1 sums the
//! lanes from the left, and another spreads four signs over them. (Words instead of vectors, as
//! every processor has them: Knuth, The Art of Computer Programming, 7.1.3.)

use super::bits::{MOST_IN_WINDOW, window_at};
use super::rice::Rice;
use crate::grid::MAX_CHUNK;
use crate::quantise::Kept;

/// Values to a word.
const LANES: usize = 4;
/// A one in every lane.
const ONES: u64 = 0x0001_0001_0001_0001;
/// The lanes' own numbers.
const IOTA: u64 = 0x0003_0002_0001_0000;
/// Bits of the high plane looked at together.
const WINDOW: usize = 56;
/// Places of ones written together: two words of them.
const BATCH: usize = 2 * LANES;
/// Signs are looked at for so many groups together.
const GROUPS_OF_SIGNS: usize = 8;

/// The planes of kept values, from some chunk on.
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

/// Room for a chunk's kept values: working memory, kept between chunks.
pub(crate) struct Unpacked {
    find_ones: FindOnes,
    places: Box<Places>,
    kept: Box<[Kept; MAX_CHUNK + LANES]>,
}

/// Places of ones in the high plane, from the chunk's first bit; and some that are not the chunk's.
type Places = [u16; MAX_CHUNK + 2 * 64];

/// [`places_of_ones`], or what does the same faster on this processor.
type FindOnes = fn(&[u8], usize, usize, &mut Places) -> usize;

impl Default for Unpacked {
    fn default() -> Self {
        let find_ones = wide::places_of_ones().unwrap_or(places_of_ones);
        Self {
            find_ones,
            places: Box::new([0; _]),
            kept: Box::new([Kept::default(); _]),
        }
    }
}

/// Reads a chunk of `keep` values that [`check`] has passed, and goes on to the next.
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

/// Checks that a chunk's bits say `keep` indices, and goes on to the next. Returns what is one past
/// the last index: it may be past the chunk, but not past 2^64, as no plane has so many bits.
/// `None` where the high plane ends.
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

/// Writes down the places of the first `count` ones from bit `start` on; returns how many bits
/// those take.
fn places_of_ones(bytes: &[u8], start: usize, count: usize, places: &mut Places) -> usize {
    let (mut found, mut base) = (0, 0);
    while found < count && start + base < 8 * bytes.len() {
        let mut word = window_at(bytes, start + base) & ((1 << WINDOW) - 1);
        let ones = word.count_ones() as usize;
        // A few places too many are written, so that the number of turns is easy to foresee.
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

/// Takes the lowest four ones out of a word; their places in the lanes of another.
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

/// The same with AVX-512's instruction that compresses the bytes that a mask selects: here, of the
/// numbers from 0 to 63.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi16, _mm512_castsi512_si256, _mm512_cvtepu8_epi16,
        _mm512_extracti64x4_epi64, _mm512_maskz_compress_epi8, _mm512_set1_epi16,
    };

    use super::{FindOnes, Places, WINDOW, window_at};

    /// That function, where the processor has the instruction.
    pub(super) fn places_of_ones() -> Option<FindOnes> {
        let can = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("popcnt");
        // SAFETY: the processor has all that is enabled there.
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

    /// As many 16-bit lanes as a vector has.
    const HALF: usize = 32;

    #[inline(always)]
    fn from_bytes(bytes: [u8; 64]) -> __m512i {
        // SAFETY: of the same size, and any bits make either.
        #[allow(unsafe_code)]
        unsafe {
            std::mem::transmute(bytes)
        }
    }

    #[inline(always)]
    fn to_lanes(vector: __m512i) -> [u16; HALF] {
        // SAFETY: of the same size, and any bits make either.
        #[allow(unsafe_code)]
        unsafe {
            std::mem::transmute(vector)
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod wide {
    pub(super) fn places_of_ones() -> Option<super::FindOnes> {
        None
    }
}

/// The place of the `count`-th one from bit `start` on; `None` where there are not so many.
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

/// Four numbers of r bits each, from side by side to a lane each.
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

/// Four bits, from the lowest, to the highest bit of a lane each.
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
    use crate::testing::SplitMix;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ones_are_found_wherever_they_are(seed: u64, density in 1usize..64, start in 0usize..100) {
            let mut random = SplitMix(seed);
            let bytes: Vec<u8> = (0..1000).map(|_| (0..8).fold(0, |byte, bit| byte | u8::from(random.below(density) == 0) << bit)).collect();
            let is_one = |place: &usize| bytes[(start + place) / 8] >> ((start + place) % 8) & 1 == 1;
            let expected: Vec<u16> = (0..8000 - start).filter(is_one).map(|place| place as u16).collect();
            for find in [Some(places_of_ones as FindOnes), wide::places_of_ones()].into_iter().flatten() {
                let mut places = Box::new([0; _]);
                for count in [1, expected.len().div_ceil(3), expected.len()] {
                    if let Some(last) = count.checked_sub(1).and_then(|last| expected.get(last)) {
                        prop_assert_eq!(find(&bytes, start, count, &mut places), usize::from(*last) + 1);
                        prop_assert_eq!(&places[..count], &expected[..count]);
                        prop_assert_eq!(place_of_last_one(&bytes, start, count), Some(usize::from(*last)));
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
            let packed = (0..LANES).fold(0, |packed, lane| packed | numbers[lane] << (lane as u32 * bits));
            let rest = rest.checked_shl(LANES as u32 * bits).unwrap_or(0);
            prop_assert_eq!(spread(packed | rest, rice), lanes(numbers.map(|number| number as u16)));
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
