//! Text generation, token by token.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::device::OpenDevice;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// How to choose tokens from the model's scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Divisor of the scores: below 1 makes likely tokens likelier, above 1 the opposite. 0 always
    /// takes the likeliest token.
    pub temperature: f32,
    /// Keep only the likeliest tokens that together have at least this probability; 1 keeps all
    /// (Holtzman et al., 2020).
    pub top_p: f32,
    /// Keep only this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// The same seed gives the same text on the same device.
    pub seed: u64,
    /// Stop strings: the text ends before the first of them.
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
        let refuse = |key, value: f32, rule| {
            Err(Error::Generation {
                key,
                value: value.to_string(),
                rule,
            })
        };
        if !(0.0..=100.0).contains(&self.temperature) {
            return refuse("temperature", self.temperature, "it must be 0 to 100");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "it must be more than 0 and at most 1");
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Generation {
                key: "stop",
                value: "\"\"".into(),
                rule: "a stop string must not be empty",
            });
        }
        Ok(())
    }
}

/// Why generation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The text reached [`Sampling::max_tokens`].
    Length,
    /// The model produced the end-of-text token.
    EndOfText,
    /// A stop string appeared.
    Stop,
    /// The caller cancelled.
    Cancelled,
}

/// What a call of [`TextGenerator::generate`] did.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratedText {
    /// The text after the prompt.
    pub text: String,
    /// The generated tokens.
    pub tokens: Vec<u32>,
    /// Why generation stopped.
    pub ending: StopReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Seconds to read the prompt and choose the first token.
    pub prompt_seconds: f64,
    /// Seconds in total.
    pub seconds: f64,
}

/// A model with weights that generates text.
pub struct TextGenerator {
    spec: ModelSpec,
    tokeniser: Arc<Tokeniser>,
    end_of_text: Option<u32>,
    engine: Engine,
    /// The text so far, or its end.
    text: Vec<u32>,
    /// Tokens of the text that the engine has read.
    read: usize,
}

impl TextGenerator {
    /// Loads `weights` onto `device`.
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
        let mut engine = Engine::on(device, &spec)?;
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

    /// Ends a text when the model produces this token.
    pub fn ending_at(mut self, end_of_text: Option<u32>) -> Self {
        self.end_of_text = end_of_text;
        self
    }

    /// Starts a text with `prompt` (a newline if it is empty) and continues it. Passes every piece
    /// of text to `on_text` as soon as its characters are complete, and stops if that breaks.
    ///
    /// The model sees at most its context. When a text outgrows it, the model reads the second half
    /// of the window again and continues from there.
    ///
    /// # Errors
    /// [`Error::Generation`] for settings out of range, [`Error::Device`] if the device fails.
    pub fn generate(
        &mut self,
        prompt: &str,
        sampling: &Sampling,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<GeneratedText> {
        self.reset();
        self.resume(
            if prompt.is_empty() { "\n" } else { prompt },
            sampling,
            on_text,
        )
    }

    /// Appends `more` to the text so far, such as a user's next line, and continues it.
    ///
    /// # Errors
    /// As for [`Self::generate`].
    pub fn resume(
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
        let mut random = Random::new(sampling.seed);
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
                break StopReason::Length;
            }
            let logits = self.next()?;
            let token = choose(&logits[..known.min(logits.len())], sampling, &mut random);
            if tokens.is_empty() {
                prompt_seconds = start.elapsed().as_secs_f64();
            }
            if Some(token) == self.end_of_text {
                break StopReason::EndOfText;
            }
            self.text.push(token);
            tokens.push(token);
            let (piece, stopped) = watch.push(&stream.push(token)?);
            let broken_off = say(&piece, &mut text).is_break();
            if stopped {
                break StopReason::Stop;
            }
            if broken_off {
                break StopReason::Cancelled;
            }
        };
        if matches!(ending, StopReason::Length | StopReason::EndOfText) {
            // The held-back tail was no stop string after all.
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

    /// Drops the text so far.
    pub fn reset(&mut self) {
        self.text.clear();
        self.read = 0;
        self.engine.begin_text();
    }

    /// The scores of every token as the next one after `tokens`, `[vocabulary]`. Of more tokens than
    /// the context, only the last count. Drops the text so far.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.reset();
        self.text.extend_from_slice(tokens);
        self.next()
    }

    /// Reads the unread end of the text, and returns the scores of every token as the next one.
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

/// Holds text back while it may be the start of a stop string.
struct StopWatch<'a> {
    stop: &'a [String],
    /// Text that may be the start of a stop string.
    held: String,
}

impl<'a> StopWatch<'a> {
    fn new(stop: &'a [String]) -> Self {
        Self {
            stop,
            held: String::new(),
        }
    }

    /// The text to pass on now, and whether a stop string ends it there.
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

    /// The text still held back.
    fn finish(self) -> String {
        self.held
    }
}

/// Random numbers from a seed, the same on every machine.
struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("commonweal text generation v1");
        Self(hasher.update(&seed.to_le_bytes()).finalize_xof())
    }

    /// A uniform number in 0..1.
    fn uniform(&mut self) -> f64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Chooses a token by its score. Never chooses a NaN score, unless all are NaN.
fn choose(logits: &[f32], sampling: &Sampling, random: &mut Random) -> u32 {
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
    let mut rest = random.uniform() * mass;
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
        let mut random = Random::new(sampling.seed);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[choose(&logits, sampling, &mut random) as usize] += 1;
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
    fn tokens_are_drawn_with_model_probabilities() {
        let [a, b, c, nan] = counts(&sampling(1.0, 1.0, 0));
        assert!(
            a.abs_diff(6000) < 200 && b.abs_diff(3000) < 200 && c.abs_diff(1000) < 200,
            "{a} {b} {c}"
        );
        assert_eq!(nan, 0);
    }

    #[test]
    fn temperature_zero_takes_the_likeliest_token() {
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
    fn text_ends_before_the_first_stop_string() {
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
