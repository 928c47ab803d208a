//! Text from a model, token by token.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::device::OpenDevice;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// How tokens are chosen from the model's scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Scores are divided by it: below 1 safer, above 1 more surprising; 0 takes the likeliest token every time.
    pub temperature: f32,
    /// Only the likeliest tokens that together have at least this probability are kept; 1 keeps all (Holtzman et al., 2020).
    pub top_p: f32,
    /// Only that many of the likeliest tokens are kept; 0 keeps all.
    pub top_k: usize,
    /// The same seed gives the same text on the same device.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { max_tokens: 256, temperature: 0.8, top_p: 0.95, top_k: 0, seed: 0 }
    }
}

impl Sampling {
    fn validate(&self) -> Result<()> {
        let refuse = |key, value: f32, accepted| Err(Error::Generation { key, value: value.to_string(), accepted });
        if !(0.0..=100.0).contains(&self.temperature) {
            return refuse("temperature", self.temperature, "0 to 100 is accepted");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "more than 0, up to 1 is accepted");
        }
        Ok(())
    }
}

/// What a call of [`TextGenerator::generate`] did.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratedText {
    /// The text after the prompt.
    pub text: String,
    /// Tokens that were generated.
    pub tokens: usize,
    /// Seconds that it took.
    pub seconds: f64,
}

/// A model with weights, ready to write.
pub struct TextGenerator {
    spec: ModelSpec,
    tokeniser: Tokeniser,
    engine: Engine,
}

impl TextGenerator {
    /// A generator of text from `weights` on `device`.
    pub fn new(spec: ModelSpec, tokeniser: Tokeniser, weights: &[f32], device: &OpenDevice) -> Result<Self> {
        check_weights(&spec.layout()?, weights)?;
        let vocabulary = tokeniser.vocabulary();
        if vocabulary > spec.vocabulary {
            return Err(Error::Vocabulary { tokeniser: vocabulary, model: spec.vocabulary });
        }
        let mut engine = device.engine(&spec)?;
        engine.load(weights)?;
        Ok(Self { spec, tokeniser, engine })
    }

    /// Goes on from `prompt` (from a new line where it is empty), and hands every piece of text to `on_text` as soon as it is whole; breaking off
    /// there ends the text. The model sees at most its context: of a longer text, the end.
    pub fn generate(
        &mut self,
        prompt: &str,
        sampling: &Sampling,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<GeneratedText> {
        sampling.validate()?;
        let start = Instant::now();
        let mut window = self.prompt_tokens(prompt)?;
        let mut dice = Dice::new(sampling.seed);
        let mut stream = self.tokeniser.stream();
        let known = self.tokeniser.vocabulary();
        let (mut text, mut tokens) = (String::new(), 0);
        while tokens < sampling.max_tokens {
            let from = window.len().saturating_sub(self.spec.context);
            window.drain(..from);
            let logits = self.engine.next_token_logits(&window)?;
            let token = choose(&logits[..known.min(logits.len())], sampling, &mut dice);
            window.push(token);
            tokens += 1;
            let piece = stream.push(token)?;
            text.push_str(&piece);
            if !piece.is_empty() && on_text(&piece).is_break() {
                break;
            }
        }
        Ok(GeneratedText { text, tokens, seconds: start.elapsed().as_secs_f64() })
    }

    fn prompt_tokens(&self, prompt: &str) -> Result<Vec<u32>> {
        for text in [prompt, "\n"] {
            let tokens = self.tokeniser.encode(text.as_bytes())?;
            if !tokens.is_empty() {
                return Ok(tokens);
            }
        }
        Ok(vec![0])
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
    let mut ranked: Vec<(u32, f32)> =
        (0u32..).zip(logits.iter().copied()).filter(|(_, score)| !score.is_nan()).collect();
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
        Sampling { temperature, top_p, top_k, ..Sampling::default() }
    }

    #[test]
    fn tokens_come_as_often_as_the_model_says() {
        let [a, b, c, nan] = counts(&sampling(1.0, 1.0, 0));
        assert!(a.abs_diff(6000) < 200 && b.abs_diff(3000) < 200 && c.abs_diff(1000) < 200, "{a} {b} {c}");
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
    fn settings_out_of_range_are_refused_by_name() {
        for (key, wrong) in [
            ("temperature", sampling(-1.0, 1.0, 0)),
            ("temperature", sampling(f32::NAN, 1.0, 0)),
            ("top_p", sampling(1.0, 0.0, 0)),
            ("top_p", sampling(1.0, f32::NAN, 0)),
        ] {
            assert!(wrong.validate().unwrap_err().to_string().starts_with(key));
        }
    }
}
