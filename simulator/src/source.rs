//! Where the text comes from: an endless, seeded source of short documents.
//!
//! A document has one of a few topics. Each next token depends on the two before it: after most
//! pairs a few tokens are likely, and which ones they are differs between topics for some pairs. So
//! there is something to learn, in common and by topic, and a floor that no model gets below.

use std::ops::Range;

use weal_coordinator_free::sim::Random;

/// The number of tokens.
pub(crate) const VOCABULARY: usize = 48;
/// Tokens in a document. Each token after the second is predicted from the two before it.
pub(crate) const DOCUMENT: usize = 18;

const TOPICS: u64 = 6;
/// The chances of the likely tokens after a pair, in parts per million. What is left to 1 million
/// is spread over all tokens.
const LIKELY_PPM: [u32; 4] = [450_000, 250_000, 130_000, 70_000];
/// The pairs that are followed by other tokens in each topic, in parts per million.
const TOPICAL_PPM: u32 = 200_000;

/// A token.
pub(crate) type Token = u8;

/// One prediction: two tokens, and the one that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Example {
    /// The token two places back, and the last one.
    pub context: [Token; 2],
    /// The token that follows.
    pub next: Token,
}

/// A seeded source of documents, numbered by position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    seed: u64,
    /// Tells training documents from held-out ones.
    stream: u64,
}

impl Source {
    /// Documents to train on.
    pub(crate) const fn training(seed: u64) -> Self {
        Self { seed, stream: 0 }
    }

    /// Documents that nobody trains on.
    pub(crate) const fn held_out(seed: u64) -> Self {
        Self { seed, stream: 1 }
    }

    /// The examples in the documents at these positions.
    pub(crate) fn examples(&self, positions: Range<u64>) -> Vec<Example> {
        positions
            .flat_map(|position| self.document(position))
            .collect()
    }

    fn document(&self, position: u64) -> Vec<Example> {
        let mut random = mixed(self.seed, [self.stream, position, 0]);
        let topic = random.next() % TOPICS;
        let any = |random: &mut Random| (random.next() % VOCABULARY as u64) as Token;
        let mut context = [any(&mut random), any(&mut random)];
        (2..DOCUMENT)
            .map(|_| {
                let next = self.follow(context, topic, &mut random);
                let example = Example { context, next };
                context = [context[1], next];
                example
            })
            .collect()
    }

    /// Draws the token after two others.
    fn follow(&self, context: [Token; 2], topic: u64, random: &mut Random) -> Token {
        // The earlier token matters by its class only, so that pairs have much in common.
        let pair = u64::from(context[0] % 4) << 8 | u64::from(context[1]);
        let topical = mixed(self.seed, [2, pair, 0]).chance(TOPICAL_PPM);
        let mut likely = mixed(self.seed, [3, pair, if topical { topic + 1 } else { 0 }]);
        let mut drawn = (random.next() % 1_000_000) as u32;
        for chance in LIKELY_PPM {
            let token = low(&mut likely);
            match drawn.checked_sub(chance) {
                None => return token,
                Some(rest) => drawn = rest,
            }
        }
        (random.next() % VOCABULARY as u64) as Token
    }
}

/// A token, small ones more often than large ones, as in text.
fn low(random: &mut Random) -> Token {
    let [one, other] = [(); 2].map(|()| random.next() % VOCABULARY as u64);
    one.min(other) as Token
}

/// A generator whose numbers follow from the seed and three numbers.
fn mixed(seed: u64, numbers: [u64; 3]) -> Random {
    let state = numbers
        .iter()
        .fold(seed, |state, number| Random::new(state ^ number).next());
    Random::new(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_always_holds_the_same_document() {
        let source = Source::training(7);
        assert_eq!(source.examples(3..4), source.examples(2..5)[16..32]);
        assert_ne!(source.examples(3..4), source.examples(4..5));
        assert_ne!(source.examples(3..4), Source::held_out(7).examples(3..4));
        assert_ne!(source.examples(3..4), Source::training(8).examples(3..4));
    }
}
