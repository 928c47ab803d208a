//! Python's `random.Random`: the Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), seeded
//! by an integer, and `sample`. The harness chooses examples with it.

use std::collections::HashSet;

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// A generator that draws what Python's draws from the same seed.
#[derive(Clone)]
pub(super) struct PythonRandom {
    state: [u32; WORDS],
    next: usize,
}

impl PythonRandom {
    /// `random.Random(seed)`.
    pub(super) fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        let mut state = [0; WORDS];
        let mut last = 19_650_218_u32;
        for (place, word) in (0..).zip(&mut state) {
            if place > 0 {
                last = 1_812_433_253_u32
                    .wrapping_mul(last ^ (last >> 30))
                    .wrapping_add(place);
            }
            *word = last;
        }
        let mut place = 1;
        let mut step = |state: &mut [u32; WORDS], factor: u32, add: &dyn Fn(usize) -> u32| {
            let before = state[place - 1];
            state[place] = (state[place] ^ (before ^ (before >> 30)).wrapping_mul(factor))
                .wrapping_add(add(place));
            place += 1;
            if place == WORDS {
                state[0] = state[WORDS - 1];
                place = 1;
            }
        };
        for turn in 0..WORDS {
            let index = turn % key.len();
            let word = key[index].wrapping_add(index as u32);
            step(&mut state, 1_664_525, &|_| word);
        }
        for _ in 1..WORDS {
            step(&mut state, 1_566_083_941, &|place| {
                (place as u32).wrapping_neg()
            });
        }
        state[0] = 0x8000_0000;
        Self { state, next: WORDS }
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.refill();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn refill(&mut self) {
        for place in 0..WORDS {
            let pair =
                (self.state[place] & 0x8000_0000) | (self.state[(place + 1) % WORDS] & 0x7fff_ffff);
            let twist = if pair & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[place] = self.state[(place + SHIFT) % WORDS] ^ (pair >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// A number below `bound`, which is at least 1.
    fn below(&mut self, bound: u32) -> u32 {
        let bits = 32 - bound.leading_zeros();
        loop {
            let drawn = self.word() >> (32 - bits.max(1));
            if drawn < bound {
                return drawn;
            }
        }
    }

    /// `sample(range(population), count)`: different numbers below `population`, in the order
    /// drawn. `None` if there are not that many.
    pub(super) fn sample(&mut self, population: u32, count: u32) -> Option<Vec<usize>> {
        if count > population {
            return None;
        }
        // Where a list of all is smaller than a set of those drawn, Python takes the list.
        let mut largest_list = 21_u64;
        if count > 5 {
            let mut power = 1_u64;
            while power < u64::from(count) * 3 {
                power *= 4;
            }
            largest_list += power;
        }
        let mut drawn = Vec::new();
        if u64::from(population) <= largest_list {
            let mut pool: Vec<usize> = (0..population as usize).collect();
            for _ in 0..count {
                drawn.push(pool.swap_remove(self.below(pool.len() as u32) as usize));
            }
        } else {
            let mut seen = HashSet::new();
            while drawn.len() < count as usize {
                let number = self.below(population) as usize;
                if seen.insert(number) {
                    drawn.push(number);
                }
            }
        }
        Some(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Drawn by CPython 3.
    const WORDS_OF_1234: [u32; 3] = [4150886329, 3342196574, 1892932127];
    const SAMPLES_OF_1234: &[(u32, &[usize])] = &[
        (10, &[7, 1, 0]),
        (100, &[11, 74, 4, 85, 88]),
        (1000, &[85, 100, 784, 363, 242, 17]),
        (85, &[3, 2, 44, 79, 61, 78]),
        (86, &[59, 19, 11, 23, 14, 1]),
        (
            21,
            &[
                16, 15, 7, 2, 14, 17, 9, 10, 1, 8, 20, 0, 4, 12, 5, 19, 3, 6, 18, 13, 11,
            ],
        ),
        (1, &[0]),
        (
            30,
            &[
                28, 16, 21, 0, 29, 2, 26, 10, 4, 15, 12, 5, 1, 24, 20, 25, 17, 8, 3, 14, 23, 18,
                13, 27, 7,
            ],
        ),
    ];
    const SAMPLE_OF_A_LONG_SEED: [usize; 5] = [64, 66, 34, 84, 3];

    #[test]
    fn numbers_and_samples_are_pythons() {
        let mut random = PythonRandom::new(1234);
        let words: Vec<u32> = (0..3).map(|_| random.word()).collect();
        assert_eq!(words, WORDS_OF_1234);
        let mut random = PythonRandom::new(1234);
        for (population, sample) in SAMPLES_OF_1234 {
            let drawn = random.sample(*population, sample.len() as u32).unwrap();
            assert_eq!(&drawn, sample, "of {population}");
        }
        assert_eq!(random.sample(3, 4), None);
        let mut random = PythonRandom::new((1 << 40) + 5);
        assert_eq!(random.sample(100, 5).unwrap(), SAMPLE_OF_A_LONG_SEED);
    }
}
