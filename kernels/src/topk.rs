//! Top-k: the k values of a chunk with the largest magnitude.
//!
//! Sorting all 4096 values to find 32 would be wasteful. Instead, lay the chunk out in rows of 2 k
//! values and take the largest magnitude of each of the 2 k columns. At least k values reach the
//! k-th largest of these column maxima, so no value below that floor is among the k largest. One
//! pass, which vectorises well, leaves only a small multiple of k candidates. Quickselect (linear
//! on average) finds the k-th largest of them, and a last pass in order collects those that reach
//! it.
//!
//! Of equal magnitudes the lower index wins, so the choice is unique.

/// Working memory, reused between chunks so that selecting allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    maxima: Vec<u32>,
    candidates: Vec<u64>,
    ranked: Vec<u64>,
}

/// Writes the indices of the `indices.len()` largest magnitudes into `indices`, in ascending order.
///
/// `values` must be finite, fewer than 2^16 and at least as many as `indices`; `indices` must not
/// be empty. `ahead` is called with the number of each block of 64 values on the way, so that the
/// caller can prefetch what it needs next.
#[inline(always)]
pub(crate) fn select(
    values: &[f32],
    scratch: &mut Scratch,
    indices: &mut [u16],
    ahead: impl Fn(usize),
) {
    let keep = indices.len();
    let floor = floor(values, keep, &mut scratch.maxima);
    let candidates = candidates(values, floor, &mut scratch.candidates, ahead);
    let least = if candidates.len() == keep {
        0
    } else {
        scratch.ranked.clear();
        scratch.ranked.extend_from_slice(candidates);
        *scratch
            .ranked
            .select_nth_unstable(candidates.len() - keep)
            .1
    };
    let chosen = candidates.iter().filter(|&&rank| rank >= least);
    for (index, &rank) in indices.iter_mut().zip(chosen) {
        *index = index_of(rank);
    }
}

/// The `keep`-th largest of the `2 keep` column maxima. At least `keep` magnitudes reach it.
#[inline(always)]
fn floor(values: &[f32], keep: usize, maxima: &mut Vec<u32>) -> u32 {
    let columns = 2 * keep;
    maxima.clear();
    maxima.resize(columns, 0);
    for row in values.chunks(columns) {
        for (maximum, &value) in maxima.iter_mut().zip(row) {
            *maximum = (*maximum).max(magnitude(value));
        }
    }
    *maxima.select_nth_unstable(columns - keep).1
}

/// The ranks of all values whose magnitude reaches the floor, in the values' order.
#[inline(always)]
fn candidates<'a>(
    values: &[f32],
    floor: u32,
    ranks: &'a mut Vec<u64>,
    ahead: impl Fn(usize),
) -> &'a [u64] {
    ranks.clear();
    for (block, values) in values.chunks(BLOCK).enumerate() {
        ahead(block);
        let mut reached = bits_that_reach(values, floor);
        while reached != 0 {
            let place = reached.trailing_zeros() as usize;
            ranks.push(rank(magnitude(values[place]), BLOCK * block + place));
            reached &= reached - 1;
        }
    }
    ranks
}

/// Values compared with the floor at a time: one per bit of a word.
pub(crate) const BLOCK: usize = 64;

/// One bit for each of up to 64 values, the first one lowest: set if its magnitude reaches the
/// floor.
#[inline(always)]
fn bits_that_reach(values: &[f32], floor: u32) -> u64 {
    // First compare into one byte per value, which vectorises. Then gather eight bytes into eight
    // bits: the multiplication adds byte i, which is 0 or 1, at bit 56 + i, and nothing above.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut bytes = [0u8; BLOCK];
    for (byte, &value) in bytes.iter_mut().zip(values) {
        *byte = u8::from(magnitude(value) >= floor);
    }
    let (eights, _) = bytes.as_chunks::<8>();
    eights.iter().rev().fold(0, |bits, &eight| {
        bits << 8 | u64::from_le_bytes(eight).wrapping_mul(GATHER) >> 56
    })
}

/// The bits of the absolute value. Read as integers, they sort as the magnitudes do.
#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// A number that sorts by magnitude and, among equal magnitudes, puts the lower index higher.
#[inline(always)]
fn rank(magnitude: u32, index: usize) -> u64 {
    u64::from(magnitude) << 16 | u64::from(!(index as u16))
}

#[inline(always)]
fn index_of(rank: u64) -> u16 {
    !(rank as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selected(values: &[f32], keep: usize) -> Vec<u16> {
        let mut indices = vec![0; keep];
        select(values, &mut Scratch::default(), &mut indices, |_| ());
        indices
    }

    /// The definition, written out.
    fn by_sorting(values: &[f32], keep: usize) -> Vec<u16> {
        let mut order: Vec<u16> = (0..values.len() as u16).collect();
        order.sort_by(|&a, &b| {
            let magnitude = |index: u16| values[usize::from(index)].abs();
            magnitude(b).total_cmp(&magnitude(a)).then(a.cmp(&b))
        });
        order.truncate(keep);
        order.sort_unstable();
        order
    }

    #[test]
    fn the_largest_magnitudes_win_whatever_their_sign() {
        assert_eq!(selected(&[1.0, -5.0, 2.0, 3.0, -0.5], 2), [1, 3]);
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        assert_eq!(selected(&[1.0, -1.0, 1.0, 1.0, 2.0], 3), [0, 1, 4]);
        assert_eq!(selected(&[0.0; 100], 4), [0, 1, 2, 3]);
        assert_eq!(selected(&[-0.0, 0.0, -0.0], 2), [0, 1]);
    }

    #[test]
    fn denormals_are_compared_exactly() {
        let tiny = f32::from_bits(1);
        assert_eq!(selected(&[0.0, tiny, -f32::from_bits(2), 0.0], 2), [1, 2]);
    }

    #[test]
    fn scratch_from_a_longer_chunk_leaves_no_trace() {
        let mut scratch = Scratch::default();
        select(&[9.0; 50], &mut scratch, &mut [0; 20], |_| ());
        let mut indices = [0; 2];
        select(&[1.0, 2.0, 3.0], &mut scratch, &mut indices, |_| ());
        assert_eq!(indices, [1, 2]);
    }

    proptest! {
        #[test]
        fn selecting_equals_sorting(
            (values, keep) in prop::collection::vec(
                prop_oneof![-1e3f32..1e3, Just(0.0), Just(1.0), Just(-1.0), Just(f32::MAX)],
                1..600,
            ).prop_flat_map(|values| (Just(values.clone()), 1..=values.len()))
        ) {
            prop_assert_eq!(selected(&values, keep), by_sorting(&values, keep));
        }
    }
}
