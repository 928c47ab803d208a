//! Loss floors: what n-gram counts reach on the same held-out text, to compare a model with.

use serde::{Deserialize, Serialize};

/// Added to every count; the value that gives the lowest trigram loss on tinyshakespeare.
const SMOOTHING: f64 = 0.1;

/// Losses on the held-out part of a corpus that need no learning, all in nats per byte.
///
/// The n-gram figures are cross-entropies: counts of the training part predict the held-out part,
/// which makes them comparable with a model's held-out loss. 0.1 is added to each count. The
/// alphabet is the bytes seen in training and one class for all others, which share its probability
/// equally. On tinyshakespeare this gives 3.35, 2.484 and 2.046. (Conditional entropies of the
/// whole text are lower, 3.31, 2.45 and 1.91, because such a table has seen the held-out text.)
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floors {
    /// Predicting each byte without context.
    pub unigram: f64,
    /// Predicting each byte from the byte before.
    pub bigram: f64,
    /// Predicting each byte from the two bytes before.
    pub trigram: f64,
    /// The entropy of generated text, which no model can beat in the long run: −log of the
    /// probability of the whole text, per byte. `None` for other text.
    pub entropy: Option<f64>,
}

impl Floors {
    pub(super) fn measure(training: &[u8], heldout: &[u8], entropy: Option<f64>) -> Self {
        let alphabet = Alphabet::of(training);
        let (training, heldout_classes) = (alphabet.classes(training), alphabet.classes(heldout));
        let unseen = heldout_classes
            .iter()
            .filter(|class| **class == alphabet.unseen())
            .count();
        let per_byte = unseen as f64 / heldout.len().max(1) as f64;
        let correction = per_byte * f64::from(256 - alphabet.seen).max(1.0).ln();
        let measure =
            |order| alphabet.cross_entropy(&training, &heldout_classes, order) + correction;
        Self {
            unigram: measure(1),
            bigram: measure(2),
            trigram: measure(3),
            entropy,
        }
    }
}

/// The bytes of a text, numbered without gaps.
struct Alphabet {
    class_of: [u16; 256],
    seen: u16,
}

impl Alphabet {
    fn of(text: &[u8]) -> Self {
        let mut present = [false; 256];
        for byte in text {
            present[usize::from(*byte)] = true;
        }
        let seen = present.iter().filter(|is_present| **is_present).count() as u16;
        let mut next = 0;
        let class_of = present.map(|is_present| {
            if is_present {
                next += 1;
                next - 1
            } else {
                seen
            }
        });
        Self { class_of, seen }
    }

    /// The class of all bytes that the text does not contain.
    fn unseen(&self) -> u16 {
        self.seen
    }

    fn classes(&self, text: &[u8]) -> Vec<u16> {
        text.iter()
            .map(|byte| self.class_of[usize::from(*byte)])
            .collect()
    }

    /// The mean of −log p over `heldout`, with p from counts of `training` with `order` − 1 bytes
    /// of context.
    fn cross_entropy(&self, training: &[u16], heldout: &[u16], order: u32) -> f64 {
        if heldout.len() < order as usize {
            return 0.0;
        }
        let size = usize::from(self.seen) + 1;
        let index = |gram: &[u16]| {
            gram.iter()
                .fold(0, |index, class| index * size + usize::from(*class))
        };
        let mut counts = vec![0u32; size.pow(order)];
        let mut contexts = vec![0u32; size.pow(order - 1)];
        for gram in training.windows(order as usize) {
            counts[index(gram)] += 1;
            contexts[index(&gram[..gram.len() - 1])] += 1;
        }
        let nats: f64 = heldout
            .windows(order as usize)
            .map(|gram| {
                let count = f64::from(counts[index(gram)]) + SMOOTHING;
                let total =
                    f64::from(contexts[index(&gram[..gram.len() - 1])]) + SMOOTHING * size as f64;
                -(count / total).ln()
            })
            .sum();
        nats / (heldout.len() + 1 - order as usize) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weal_testing::require;

    #[test]
    fn a_text_of_fair_coin_tosses_has_the_entropy_of_a_coin() {
        let toss = |index: u32| b'0' + (blake3::hash(&index.to_le_bytes()).as_bytes()[0] & 1);
        let text: Vec<u8> = (0..40_000).map(toss).collect();
        let floors = Floors::measure(&text[..36_000], &text[36_000..], None);
        for floor in [floors.unigram, floors.bigram, floors.trigram] {
            assert!((floor - std::f64::consts::LN_2).abs() < 2e-3, "{floors:?}");
        }
    }

    #[test]
    fn an_alternating_text_costs_nothing_with_one_byte_of_context() {
        let text: Vec<u8> = b"ab".repeat(5_000);
        let floors = Floors::measure(&text[..9_000], &text[9_000..], None);
        assert!(
            (floors.unigram - std::f64::consts::LN_2).abs() < 1e-3 && floors.bigram < 1e-3,
            "{floors:?}"
        );
    }

    #[test]
    fn bytes_unseen_in_training_cost_much_but_not_infinitely() {
        let floors = Floors::measure(&b"ab".repeat(500), b"zzzz", None);
        assert!(
            floors.unigram > 10.0 && floors.unigram.is_finite(),
            "{floors:?}"
        );
    }

    #[test]
    fn tinyshakespeare_has_its_quoted_floors() {
        let Some(path) = require::test_text() else {
            println!(
                "SKIPPED: the floors of a real text: WEAL_TEST_TEXT does not name tinyshakespeare.txt"
            );
            return;
        };
        let text = std::fs::read(path).unwrap();
        let cut = text.len() - text.len() / 10;
        let floors = Floors::measure(&text[..cut], &text[cut..], None);
        assert!((floors.unigram - 3.347).abs() < 1e-3, "{floors:?}");
        assert!((floors.bigram - 2.485).abs() < 2e-3, "{floors:?}");
        assert!((floors.trigram - 2.046).abs() < 1e-3, "{floors:?}");
    }
}
