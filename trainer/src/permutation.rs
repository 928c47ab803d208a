//! A keyed permutation of the numbers below a bound: a Feistel network whose output is encrypted
//! again until it is below the bound (cycle walking; Black and Rogaway, 2002).

/// Rounds of the network. Four make a strong permutation; the rest serve small bounds.
const ROUNDS: u8 = 8;

/// A permutation of `0..size`.
#[derive(Clone, Debug)]
pub(crate) struct Permutation {
    key: [u8; 32],
    size: u64,
    /// Bits of half a number.
    half: u32,
}

impl Permutation {
    /// The permutation of `0..size` that belongs to `key`.
    pub(crate) fn new(key: [u8; 32], size: u64) -> Self {
        let bits = u64::BITS - size.saturating_sub(1).leading_zeros();
        let half = bits.div_ceil(2).max(1);
        Self { key, size, half }
    }

    /// Where `number` goes. Numbers from `size` on are taken modulo `size`; if that is 0, the
    /// answer is 0.
    pub(crate) fn apply(&self, number: u64) -> u64 {
        if self.size <= 1 {
            return 0;
        }
        // The network permutes at most 4 × size numbers, and those from `size` on are passed over
        // until the cycle comes back to one below. It does, since it started with one.
        let mut number = self.encrypt(number % self.size);
        while number >= self.size {
            number = self.encrypt(number);
        }
        number
    }

    fn encrypt(&self, number: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let (mut left, mut right) = (number >> self.half, number & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ (self.mix(round, right) & mask));
        }
        left << self.half | right
    }

    fn mix(&self, round: u8, half: u64) -> u64 {
        let mut message = [round; 9];
        message[1..].copy_from_slice(&half.to_le_bytes());
        let hash = blake3::keyed_hash(&self.key, &message);
        u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_has_one_place() {
        for size in (1..70).chain([127, 128, 129, 1000, 4097]) {
            for key in 0..3 {
                let permutation = Permutation::new([key; 32], size);
                let places: BTreeSet<u64> = (0..size).map(|n| permutation.apply(n)).collect();
                assert_eq!(places.len() as u64, size);
                assert_eq!(places.last(), Some(&(size - 1)));
            }
        }
    }

    #[test]
    fn the_largest_bounds_work() {
        for size in [1 << 32, (1 << 32) + 1, 1 << 62, u64::MAX] {
            let permutation = Permutation::new([7; 32], size);
            let places: BTreeSet<u64> = (size - 50..size).map(|n| permutation.apply(n)).collect();
            assert_eq!(places.len(), 50);
            assert!(places.iter().all(|place| *place < size));
        }
    }

    #[test]
    fn a_bound_of_nothing_is_no_accident() {
        assert_eq!(Permutation::new([0; 32], 0).apply(5), 0);
    }

    #[test]
    fn neighbours_go_apart_and_another_key_gives_another_order() {
        let size = 10_000;
        let (one, other) = (
            Permutation::new([1; 32], size),
            Permutation::new([2; 32], size),
        );
        let near = (1..size).filter(|n| one.apply(*n).abs_diff(one.apply(n - 1)) < 100);
        assert!((100..300).contains(&near.count()));
        assert!(
            (0..size)
                .filter(|n| one.apply(*n) == other.apply(*n))
                .count()
                < 10
        );
    }

    #[test]
    fn the_order_is_the_same_on_every_machine() {
        let permutation = Permutation::new([3; 32], 1_000_000);
        let places: Vec<u64> = (0..4).map(|n| permutation.apply(n)).collect();
        assert_eq!(places, [98_532, 804_716, 563_856, 294_546]);
    }
}
