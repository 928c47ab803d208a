//! Which window of the training text is a peer's i-th sample: a pure function, so no coordinator
//! assigns samples, and every peer can check another's.

/// Domain separation from every other use of keyed BLAKE3.
const DOMAIN: &[u8] = b"commonweal sample v1";

/// The stream of samples that a round assigns to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The round's seed, the same for every peer.
    pub seed: [u8; 32],
    /// The peer's public key.
    pub peer: [u8; 32],
}

impl Assignment {
    /// The peer's sample number `index` among `windows` windows of the training text, in
    /// `0..windows`.
    ///
    /// Uniform without bias: a 64-bit draw from keyed BLAKE3 is scaled by a 128-bit multiplication,
    /// and the few draws that would favour some windows are rejected (Lemire, 2019,
    /// <https://arxiv.org/abs/1805.10941>). Returns 0 if `windows` is 0.
    pub fn sample(&self, index: u64, windows: u64) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher
            .update(DOMAIN)
            .update(&self.peer)
            .update(&index.to_le_bytes());
        let mut stream = hasher.finalize_xof();
        let rejected = if windows == 0 {
            0
        } else {
            windows.wrapping_neg() % windows
        };
        loop {
            let mut draw = [0; 8];
            stream.fill(&mut draw);
            let product = u128::from(u64::from_le_bytes(draw)) * u128::from(windows);
            if product as u64 >= rejected {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGNMENT: Assignment = Assignment {
        seed: [1; 32],
        peer: [2; 32],
    };

    #[test]
    fn the_samples_are_the_same_on_every_machine() {
        let samples: Vec<u64> = (0..4)
            .map(|index| ASSIGNMENT.sample(index, 1_000_000))
            .collect();
        assert_eq!(samples, [391_396, 539_205, 312_348, 847_849]);
    }

    #[test]
    fn seed_peer_and_index_all_matter() {
        let base = ASSIGNMENT.sample(0, u64::MAX);
        assert_ne!(base, ASSIGNMENT.sample(1, u64::MAX));
        assert_ne!(
            base,
            Assignment {
                seed: [9; 32],
                ..ASSIGNMENT
            }
            .sample(0, u64::MAX)
        );
        assert_ne!(
            base,
            Assignment {
                peer: [9; 32],
                ..ASSIGNMENT
            }
            .sample(0, u64::MAX)
        );
    }

    #[test]
    fn every_window_is_drawn_about_equally_often() {
        let mut counts = [0u32; 7];
        for index in 0..70_000 {
            counts[ASSIGNMENT.sample(index, 7) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| count.abs_diff(10_000) < 400),
            "{counts:?}"
        );
    }

    #[test]
    fn a_space_of_one_or_none_has_one_answer() {
        assert_eq!(ASSIGNMENT.sample(5, 1), 0);
        assert_eq!(ASSIGNMENT.sample(5, 0), 0);
    }
}
