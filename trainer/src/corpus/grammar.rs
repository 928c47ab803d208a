//! The built-in text generator, for runs without data: a seeded grammar that records the
//! probability of every choice, so that the entropy of the text is known exactly.

/// BLAKE3 domain of the generator. Change it with any change of the grammar.
const DOMAIN: &str = "commonweal generated text v1";

const NOUNS: usize = 24;
const VERBS: usize = 16;
const ADJECTIVES: usize = 12;

/// Deepest nesting of brackets.
const DEEPEST: usize = 6;

/// The three kinds of brackets, opening and closing.
const BRACKETS: [(u8, u8); 3] = [(b'(', b')'), (b'[', b']'), (b'{', b'}')];

/// Text of the built-in generator.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The text, ASCII.
    pub text: Vec<u8>,
    /// −log of the probability of exactly this text, in nats. Different choices always give
    /// different texts, so it is the sum over all choices.
    pub nats: f64,
}

/// Generates at least `bytes` bytes of text, up to the end of a paragraph. The same seed gives the
/// same text on every machine.
///
/// A paragraph has a heading with its topic and records of four kinds, to learn from at several
/// scales: sentences whose verbs agree with their subjects across a relative clause and whose
/// subjects favour the topic; nested brackets; repeated random words; sums of two numbers. The
/// vocabulary comes from the seed too, but counts as known and is not part of the entropy.
pub fn generate_text(seed: &[u8; 32], bytes: usize) -> Generated {
    let mut writer = Writer::new(seed);
    let lexicon = Lexicon::new(seed);
    while writer.text.len() < bytes {
        writer.paragraph(&lexicon);
    }
    Generated {
        text: writer.text,
        nats: writer.nats,
    }
}

/// The vocabulary of a text. The three kinds share no word, and every word ends with a vowel, so
/// the "s" of a plural or a verb is never part of a stem.
struct Lexicon {
    nouns: Vec<String>,
    verbs: Vec<String>,
    adjectives: Vec<String>,
}

impl Lexicon {
    fn new(seed: &[u8; 32]) -> Self {
        let mut random = Random::new(seed, b"lexicon");
        let mut words: Vec<String> = vec!["the".into(), "that".into()];
        while words.len() < 2 + NOUNS + VERBS + ADJECTIVES {
            let word: String = (0..2 + random.below(2))
                .flat_map(|_| random.syllable())
                .collect();
            if !words.contains(&word) {
                words.push(word);
            }
        }
        let verbs = words.split_off(2 + NOUNS);
        let (verbs, adjectives) = verbs.split_at(VERBS);
        Self {
            nouns: words.split_off(2),
            verbs: verbs.to_vec(),
            adjectives: adjectives.to_vec(),
        }
    }
}

/// Unbiased random integers from a seed.
struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: &[u8; 32], purpose: &[u8]) -> Self {
        Self(
            blake3::Hasher::new_derive_key(DOMAIN)
                .update(seed)
                .update(purpose)
                .finalize_xof(),
        )
    }

    /// A number in `0..bound`.
    fn below(&mut self, bound: u32) -> u32 {
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let mut draw = [0; 4];
            self.0.fill(&mut draw);
            let product = u64::from(u32::from_le_bytes(draw)) * u64::from(bound);
            if product as u32 >= rejected {
                return (product >> 32) as u32;
            }
        }
    }

    fn syllable(&mut self) -> [char; 2] {
        const CONSONANTS: [char; 12] = ['b', 'd', 'f', 'g', 'k', 'l', 'm', 'n', 'p', 'r', 't', 'v'];
        const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];
        [
            CONSONANTS[self.below(12) as usize],
            VOWELS[self.below(5) as usize],
        ]
    }
}

/// Writes text and sums up the information of every choice.
struct Writer {
    random: Random,
    text: Vec<u8>,
    nats: f64,
}

impl Writer {
    fn new(seed: &[u8; 32]) -> Self {
        Self {
            random: Random::new(seed, b"text"),
            text: Vec::new(),
            nats: 0.0,
        }
    }

    /// The only source of randomness: an index with probability `weights[index]` / sum.
    fn choose(&mut self, weights: &[u32]) -> usize {
        let total: u32 = weights.iter().sum();
        let mut rest = self.random.below(total);
        let mut chosen = 0;
        while rest >= weights[chosen] {
            rest -= weights[chosen];
            chosen += 1;
        }
        self.nats -= (f64::from(weights[chosen]) / f64::from(total)).ln();
        chosen
    }

    fn put(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// A heading, then records, then an empty line.
    fn paragraph(&mut self, lexicon: &Lexicon) {
        let topic = self.choose(&falling(lexicon.nouns.len()));
        self.put("# ");
        self.put(&lexicon.nouns[topic]);
        self.put("\n");
        loop {
            match self.choose(&[10, 3, 3, 4, 2]) {
                0 => self.sentence(lexicon, topic),
                1 => self.brackets(),
                2 => self.repetition(),
                3 => self.sum(),
                _ => break,
            }
        }
        self.put("\n");
    }

    /// "the mola that rivas the tebis sulos.": subject and verb agree, even across a clause between
    /// them.
    fn sentence(&mut self, lexicon: &Lexicon, topic: usize) {
        let plural = self.noun_phrase(lexicon, Some(topic));
        if self.choose(&[3, 1]) == 1 {
            self.put(" that");
            self.verb(lexicon, plural);
            self.put(" ");
            self.noun_phrase(lexicon, None);
        }
        self.verb(lexicon, plural);
        if self.choose(&[1, 1]) == 1 {
            self.put(" ");
            self.noun_phrase(lexicon, None);
        }
        self.put(".\n");
    }

    /// Writes a noun phrase and returns whether it is plural. The topic gets
    /// as much extra weight as all nouns have together.
    fn noun_phrase(&mut self, lexicon: &Lexicon, topic: Option<usize>) -> bool {
        self.put("the ");
        if self.choose(&[2, 1]) == 1 {
            let adjective = self.choose(&falling(lexicon.adjectives.len()));
            self.put(&lexicon.adjectives[adjective]);
            self.put(" ");
        }
        let mut weights = falling(lexicon.nouns.len());
        if let Some(topic) = topic {
            weights[topic] += weights.iter().sum::<u32>();
        }
        let noun = self.choose(&weights);
        self.put(&lexicon.nouns[noun]);
        let plural = self.choose(&[3, 2]) == 1;
        self.put(if plural { "s" } else { "" });
        plural
    }

    fn verb(&mut self, lexicon: &Lexicon, plural: bool) {
        let verb = self.choose(&falling(lexicon.verbs.len()));
        self.put(" ");
        self.put(&lexicon.verbs[verb]);
        self.put(if plural { "" } else { "s" });
    }

    /// "([]{()})": each closing bracket matches its opening one.
    fn brackets(&mut self) {
        let mut open = Vec::new();
        loop {
            let may_open = u32::from(open.len() < DEEPEST);
            let may_close = u32::from(!open.is_empty());
            let may_end = u32::from(open.is_empty() && self.text.last() != Some(&b'\n'));
            match self.choose(&[2 * may_open, may_open, may_open, 4 * may_close, 3 * may_end]) {
                3 => self.text.extend(open.pop()),
                4 => break,
                kind => {
                    let (opening, closing) = BRACKETS[kind];
                    self.text.push(opening);
                    open.push(closing);
                }
            }
        }
        self.put("\n");
    }

    /// "say kwqxb: kwqxb".
    fn repetition(&mut self) {
        let length = 3 + self.choose(&[1; 6]);
        let word: String = (0..length)
            .map(|_| char::from(b'a' + self.choose(&[1; 26]) as u8))
            .collect();
        self.put(&format!("say {word}: {word}\n"));
    }

    /// "37+48=85".
    fn sum(&mut self) {
        let (left, right) = (self.choose(&[1; 100]), self.choose(&[1; 100]));
        self.put(&format!("{left}+{right}={}\n", left + right));
    }
}

/// Weights proportional to 1 / (rank + 1), like word frequencies.
fn falling(length: usize) -> Vec<u32> {
    (0..length as u32).map(|rank| 720 / (rank + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seed: u8, bytes: usize) -> String {
        String::from_utf8(generate_text(&[seed; 32], bytes).text).unwrap()
    }

    #[test]
    fn the_text_is_the_same_on_every_machine() {
        let generated = generate_text(&[1; 32], 100_000);
        assert_eq!(
            blake3::hash(&generated.text).to_hex().as_str(),
            "d9c8ffc8708933e3f9926e87d7533c541e3e3bb9bc3296d16d3ab1b122dc4437"
        );
    }

    #[test]
    fn a_longer_text_starts_with_the_shorter_one() {
        assert!(text(4, 5000).starts_with(&text(4, 1000)));
        assert_ne!(text(4, 1000), text(5, 1000));
    }

    #[test]
    fn sums_are_right_repetitions_repeat_and_brackets_close() {
        let text = text(2, 50_000);
        let (mut sums, mut repetitions, mut nests) = (0, 0, 0);
        for line in text.lines() {
            if let Some((terms, result)) = line.split_once('=') {
                let (left, right) = terms.split_once('+').unwrap();
                let number = |text: &str| text.parse::<u32>().unwrap();
                assert_eq!(number(left) + number(right), number(result));
                sums += 1;
            } else if let Some(words) = line.strip_prefix("say ") {
                let (word, again) = words.split_once(": ").unwrap();
                assert_eq!(word, again);
                repetitions += 1;
            } else if line.starts_with(['(', '[', '{']) {
                assert!(is_balanced(line), "{line}");
                nests += 1;
            }
        }
        assert!(
            sums > 50 && repetitions > 50 && nests > 50,
            "{sums} {repetitions} {nests}"
        );
    }

    fn is_balanced(line: &str) -> bool {
        let mut open = Vec::new();
        line.bytes().all(
            |byte| match BRACKETS.iter().find(|(opening, _)| *opening == byte) {
                Some((_, closing)) => {
                    open.push(*closing);
                    true
                }
                None => open.pop() == Some(byte),
            },
        ) && open.is_empty()
    }

    #[test]
    fn verbs_agree_with_their_subjects() {
        let text = text(3, 50_000);
        let plain = text
            .lines()
            .filter(|line| line.starts_with("the ") && !line.contains(" that "));
        let mut sentences = 0;
        for line in plain {
            let words: Vec<&str> = line.trim_end_matches('.').split(' ').collect();
            let lexicon = Lexicon::new(&[3; 32]);
            let is_adjective = lexicon
                .adjectives
                .iter()
                .any(|adjective| adjective == words[1]);
            let (noun, verb) = if is_adjective {
                (words[2], words[3])
            } else {
                (words[1], words[2])
            };
            assert_ne!(noun.ends_with('s'), verb.ends_with('s'), "{line}");
            sentences += 1;
        }
        assert!(sentences > 100, "{sentences}");
    }

    #[test]
    fn the_entropy_is_the_sum_over_all_choices() {
        let mut writer = Writer::new(&[0; 32]);
        writer.repetition();
        let letters = (writer.text.len() - "say : \n".len()) / 2;
        let expected = 6f64.ln() + letters as f64 * 26f64.ln();
        assert!((writer.nats - expected).abs() < 1e-9);
    }

    #[test]
    fn the_entropy_per_byte_hardly_depends_on_the_seed() {
        let per_byte = |seed: u8| {
            let generated = generate_text(&[seed; 32], 400_000);
            generated.nats / generated.text.len() as f64
        };
        assert!(
            (per_byte(1) - per_byte(2)).abs() < 0.05,
            "{} {}",
            per_byte(1),
            per_byte(2)
        );
    }
}
