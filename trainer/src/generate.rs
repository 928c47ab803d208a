//! Text from a model, token by token.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::device::OpenDevice;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// How tokens are chosen from the model's scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Scores are divided by it: below 1 safer, above 1 more surprising; 0 takes the likeliest
    /// token every time.
    pub temperature: f32,
    /// Only the likeliest tokens that together have at least this probability are kept; 1 keeps all
    /// (Holtzman et al., 2020).
    pub top_p: f32,
    /// Only that many of the likeliest tokens are kept; 0 keeps all.
    pub top_k: usize,
    /// The same seed gives the same text on the same device.
    pub seed: u64,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 0.8,
            top_p: 0.95,
            top_k: 0,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

impl Sampling {
    fn validate(&self) -> Result<()> {
        let refuse = |key, value: f32, accepted| {
            Err(Error::Generation {
                key,
                value: value.to_string(),
                accepted,
            })
        };
        if !(0.0..=100.0).contains(&self.temperature) {
            return refuse("temperature", self.temperature, "0 to 100 is accepted");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "more than 0, up to 1 is accepted");
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Generation {
                key: "stop",
                value: "\"\"".into(),
                accepted: "at least one letter is needed",
            });
        }
        Ok(())
    }
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has as many tokens as were asked for.
    Length,
    /// The model ended it.
    EndOfText,
    /// What it must stop before has come.
    Stop,
    /// The one who listened broke off.
    BrokenOff,
}

/// What a call of [`TextGenerator::generate`] did.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratedText {
    /// The text after the prompt.
    pub text: String,
    /// The tokens that were generated.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub ending: Ending,
    /// Tokens that had to be read before: the prompt's.
    pub prompt_tokens: usize,
    /// Seconds until the prompt was read and the first token chosen.
    pub prompt_seconds: f64,
    /// Seconds that all of it took.
    pub seconds: f64,
}

/// A model with weights, ready to write.
pub struct TextGenerator {
    spec: ModelSpec,
    tokeniser: Arc<Tokeniser>,
    end_of_text: Option<u32>,
    engine: Engine,
    /// The text so far, the end of it at least.
    text: Vec<u32>,
    /// Tokens of it that the engine has read.
    read: usize,
}

impl TextGenerator {
    /// A generator of text from `weights` on `device`.
    pub fn new(
        spec: ModelSpec,
        tokeniser: Tokeniser,
        weights: &[f32],
        device: &OpenDevice,
    ) -> Result<Self> {
        check_weights(&spec.layout()?, weights)?;
        let vocabulary = tokeniser.vocabulary();
        if vocabulary > spec.vocabulary {
            return Err(Error::Vocabulary {
                tokeniser: vocabulary,
                model: spec.vocabulary,
            });
        }
        let mut engine = device.engine(&spec)?;
        engine.load(weights)?;
        Ok(Self {
            spec,
            tokeniser: tokeniser.into(),
            end_of_text: None,
            engine,
            text: Vec::new(),
            read: 0,
        })
    }

    /// Ends texts where the model writes this token.
    pub fn ending_at(mut self, end_of_text: Option<u32>) -> Self {
        self.end_of_text = end_of_text;
        self
    }

    /// Begins a text with `prompt` (with a new line where it is empty), and goes on from there;
    /// hands every piece of text to `on_text` as soon as it is whole, and ends where that breaks
    /// off.
    ///
    /// The model sees at most its context. Where a text grows longer, it goes on from the second
    /// half of what it saw, which is read again.
    ///
    /// # Errors
    /// [`Error::Generation`] for settings out of range, [`Error::Device`] where the device fails.
    pub fn generate(
        &mut self,
        prompt: &str,
        sampling: &Sampling,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<GeneratedText> {
        self.forget();
        self.go_on(
            if prompt.is_empty() { "\n" } else { prompt },
            sampling,
            on_text,
        )
    }

    /// Goes on with the text so far after `more`, which somebody else wrote.
    ///
    /// # Errors
    /// As of [`Self::generate`].
    pub fn go_on(
        &mut self,
        more: &str,
        sampling: &Sampling,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<GeneratedText> {
        sampling.validate()?;
        let start = Instant::now();
        let before = self.text.len();
        self.text.extend(self.tokeniser.encode(more.as_bytes())?);
        if self.text.is_empty() {
            self.text.push(0);
        }
        let prompt_tokens = self.text.len() - before;
        let tokeniser = self.tokeniser.clone();
        let mut stream = tokeniser.stream();
        let mut watch = StopWatch::new(&sampling.stop);
        let mut dice = Dice::new(sampling.seed);
        let known = tokeniser.vocabulary();
        let (mut text, mut tokens, mut prompt_seconds) = (String::new(), Vec::new(), 0.0);
        let mut say = |piece: &str, text: &mut String| {
            text.push_str(piece);
            if piece.is_empty() {
                ControlFlow::Continue(())
            } else {
                on_text(piece)
            }
        };
        let ending = loop {
            if tokens.len() == sampling.max_tokens {
                break Ending::Length;
            }
            let logits = self.next()?;
            let token = choose(&logits[..known.min(logits.len())], sampling, &mut dice);
            if tokens.is_empty() {
                prompt_seconds = start.elapsed().as_secs_f64();
            }
            if Some(token) == self.end_of_text {
                break Ending::EndOfText;
            }
            self.text.push(token);
            tokens.push(token);
            let (piece, stopped) = watch.push(&stream.push(token)?);
            let broken_off = say(&piece, &mut text).is_break();
            if stopped {
                break Ending::Stop;
            }
            if broken_off {
                break Ending::BrokenOff;
            }
        };
        if matches!(ending, Ending::Length | Ending::EndOfText) {
            // What was held back, because it could have become what the text stops before, has not.
            let _ = say(&watch.finish(), &mut text);
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(GeneratedText {
            text,
            tokens,
            ending,
            prompt_tokens,
            prompt_seconds,
            seconds,
        })
    }

    /// Forgets the text so far.
    pub fn forget(&mut self) {
        self.text.clear();
        self.read = 0;
        self.engine.begin_text();
    }

    /// The scores of every token as the next one after `tokens`, `[vocabulary]`; of more than the
    /// model's context, the end. The text so far is forgotten.
    ///
    /// # Errors
    /// [`Error::Device`] where the device fails.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.forget();
        self.text.extend_from_slice(tokens);
        self.next()
    }

    /// Reads what was not read yet, and gives the scores of every token as the next one.
    fn next(&mut self) -> Result<Vec<f32>> {
        let context = self.spec.context;
        if self.text.len() > context {
            let keep = if self.read == 0 { context } else { context / 2 };
            self.text.drain(..self.text.len() - keep);
            self.read = 0;
            self.engine.begin_text();
        }
        let logits = self.engine.read_text(&self.text[self.read..])?;
        self.read = self.text.len();
        Ok(logits)
    }
}

/// Text on its way out, watched for what it must stop before.
struct StopWatch<'a> {
    stop: &'a [String],
    /// What may be the beginning of one of them.
    held: String,
}

impl<'a> StopWatch<'a> {
    fn new(stop: &'a [String]) -> Self {
        Self {
            stop,
            held: String::new(),
        }
    }

    /// The text that can go out now, and whether it ends there.
    fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(end) = self
            .stop
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min()
        {
            return (self.held[..end].to_owned(), true);
        }
        let may_begin = |start: &usize| {
            self.stop
                .iter()
                .any(|stop| stop.starts_with(&self.held[*start..]))
        };
        let held_from = self
            .held
            .char_indices()
            .map(|(start, _)| start)
            .find(may_begin)
            .unwrap_or(self.held.len());
        let kept = self.held.split_off(held_from);
        (std::mem::replace(&mut self.held, kept), false)
    }

    /// What is still held back.
    fn finish(self) -> String {
        self.held
    }
}

/// Random numbers from a seed, the same on every machine.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("commonweal text generation v1");
        Self(hasher.update(&seed.to_le_bytes()).finalize_xof())
    }

    /// A number in 0..1.
    fn roll(&mut self) -> f64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Chooses a token by its score; scores that are not numbers are never chosen, unless all are.
fn choose(logits: &[f32], sampling: &Sampling, dice: &mut Dice) -> u32 {
    let mut ranked: Vec<(u32, f32)> = (0u32..)
        .zip(logits.iter().copied())
        .filter(|(_, score)| !score.is_nan())
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let Some((likeliest, most)) = ranked.first().copied() else {
        return 0;
    };
    if sampling.temperature == 0.0 {
        return likeliest;
    }
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k);
    }
    let weight = |score: f32| f64::from((score - most) / sampling.temperature).exp();
    let total: f64 = ranked.iter().map(|(_, score)| weight(*score)).sum();
    let mut kept = 0;
    let mut mass = 0.0;
    while kept < ranked.len() && (kept == 0 || mass < f64::from(sampling.top_p) * total) {
        mass += weight(ranked[kept].1);
        kept += 1;
    }
    let mut rest = dice.roll() * mass;
    for (token, score) in &ranked[..kept] {
        rest -= weight(*score);
        if rest < 0.0 {
            return *token;
        }
    }
    likeliest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: &Sampling) -> [u32; 4] {
        let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln(), f32::NAN];
        let mut dice = Dice::new(sampling.seed);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[choose(&logits, sampling, &mut dice) as usize] += 1;
        }
        counts
    }

    fn sampling(temperature: f32, top_p: f32, top_k: usize) -> Sampling {
        Sampling {
            temperature,
            top_p,
            top_k,
            ..Sampling::default()
        }
    }

    #[test]
    fn tokens_come_as_often_as_the_model_says() {
        let [a, b, c, nan] = counts(&sampling(1.0, 1.0, 0));
        assert!(
            a.abs_diff(6000) < 200 && b.abs_diff(3000) < 200 && c.abs_diff(1000) < 200,
            "{a} {b} {c}"
        );
        assert_eq!(nan, 0);
    }

    #[test]
    fn temperature_zero_takes_the_likeliest() {
        assert_eq!(counts(&sampling(0.0, 1.0, 0)), [10_000, 0, 0, 0]);
    }

    #[test]
    fn top_p_and_top_k_cut_the_tail_off() {
        let [a, b, c, _] = counts(&sampling(1.0, 0.7, 0));
        assert!(a > 0 && b > 0 && c == 0);
        assert_eq!(counts(&sampling(1.0, 0.5, 0))[1..], [0, 0, 0]);
        assert_eq!(counts(&sampling(1.0, 1.0, 2))[2], 0);
    }

    #[test]
    fn text_stops_before_the_first_of_what_it_must_stop_before() {
        let stop = ["END".to_owned(), "\n\n".to_owned()];
        let heard = |pieces: &[&str]| {
            let mut watch = StopWatch::new(&stop);
            let mut said = String::new();
            for piece in pieces {
                let (out, stopped) = watch.push(piece);
                said.push_str(&out);
                if stopped {
                    return (said, true);
                }
            }
            (said + &watch.finish(), false)
        };
        assert_eq!(heard(&["one E", "N", "D two"]), ("one ".into(), true));
        assert_eq!(
            heard(&["one\n", "two EN", "\n", "\nEND"]),
            ("one\ntwo EN".into(), true)
        );
        assert_eq!(heard(&["one EEN", "D"]), ("one E".into(), true));
        assert_eq!(heard(&["a\nb", "E"]), ("a\nbE".into(), false));
        let mut watch = StopWatch::new(&stop);
        assert_eq!(watch.push("to the EN"), ("to the ".into(), false));
        assert_eq!(watch.push("emy"), ("ENemy".into(), false));
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for (key, wrong) in [
            ("temperature", sampling(-1.0, 1.0, 0)),
            ("temperature", sampling(f32::NAN, 1.0, 0)),
            ("top_p", sampling(1.0, 0.0, 0)),
            ("top_p", sampling(1.0, f32::NAN, 0)),
            (
                "stop",
                Sampling {
                    stop: vec![String::new()],
                    ..Sampling::default()
                },
            ),
        ] {
            assert!(wrong.validate().unwrap_err().to_string().starts_with(key));
        }
    }
}
