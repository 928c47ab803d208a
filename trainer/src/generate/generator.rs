//! [`TextGenerator`]: continues a text token by token.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::choice::{Random, Sampling, choose};
use super::stop::StopWatch;
use crate::device::OpenDevice;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// With less memory than for this many tokens, no text is generated.
const LEAST_CONTEXT: usize = 16;

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
    /// Tokens at the start of the prompt that the model does not see, because it is longer than the
    /// context.
    pub unseen_tokens: usize,
    /// Seconds to read the prompt and choose the first token.
    pub prompt_seconds: f64,
    /// Seconds in total.
    pub seconds: f64,
}

/// A model with weights that generates text.
pub struct TextGenerator {
    spec: ModelSpec,
    tokeniser: Arc<Tokeniser>,
    /// Tokens that end a text.
    ends: Vec<u32>,
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
        tokeniser: impl Into<Arc<Tokeniser>>,
        weights: &[f32],
        device: &OpenDevice,
    ) -> Result<Self> {
        check_weights(&spec.layout()?, weights)?;
        let tokeniser = tokeniser.into();
        tokeniser.check_fits(&spec)?;
        let mut engine = Engine::on(device, &spec)?;
        engine.load(weights)?;
        Ok(Self {
            spec,
            ends: tokeniser.special().eos.clone(),
            tokeniser,
            engine,
            text: Vec::new(),
            read: 0,
        })
    }

    /// Ends a text when the model produces one of these tokens, in place of the tokeniser's.
    #[must_use]
    pub fn ending_at(mut self, ends: Vec<u32>) -> Self {
        self.ends = ends;
        self
    }

    /// Starts a text with `prompt` (a newline if it is empty) and continues it. Passes every piece
    /// of text to `on_text` as soon as its characters are complete, and stops if that breaks.
    ///
    /// The model sees at most its context, and less if the device runs out of memory. When a text
    /// outgrows it, the model reads the second half of the window again and continues from there.
    ///
    /// # Errors
    /// [`Error::Generation`](crate::Error::Generation) for settings out of range,
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    pub fn generate(
        &mut self,
        prompt: &str,
        sampling: &Sampling,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<GeneratedText> {
        self.reset();
        self.resume(
            if prompt.is_empty() && self.tokeniser.special().first().is_none() {
                "\n"
            } else {
                prompt
            },
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
        let before = self.text.len();
        if before == 0 {
            self.text.extend(self.tokeniser.special().first());
        }
        let tokens = match before {
            0 => self.tokeniser.encode(more.as_bytes())?,
            _ => self.tokeniser.encode_on(more.as_bytes())?,
        };
        self.text.extend(tokens);
        if self.text.is_empty() {
            self.text.push(0);
        }
        let prompt_tokens = self.text.len() - before;
        self.write(prompt_tokens, sampling, on_text)
    }

    /// Answers a prompt in tokens, such as a conversation by a chat template. What the model has
    /// read of it already, it does not read again.
    ///
    /// # Errors
    /// As for [`Self::generate`].
    pub fn answer(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<GeneratedText> {
        sampling.validate()?;
        let known = self.text.len();
        if known == 0 || known >= prompt.len() || !prompt.starts_with(&self.text) {
            self.reset();
        }
        let known = self.text.len();
        self.text.extend(prompt.iter().skip(known));
        if self.text.is_empty() {
            self.text.push(0);
        }
        self.write(prompt.len() - known, sampling, on_text)
    }

    /// Continues the text.
    fn write(
        &mut self,
        prompt_tokens: usize,
        sampling: &Sampling,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<GeneratedText> {
        let start = Instant::now();
        let (begun_with, mut unseen_tokens) = (self.text.len(), 0);
        let tokeniser = self.tokeniser.clone();
        let mut stream = tokeniser.stream_after(&self.text);
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
                let unseen = begun_with.saturating_sub(self.spec.context);
                unseen_tokens = unseen.min(prompt_tokens);
            }
            if self.ends.contains(&token) {
                break StopReason::EndOfText;
            }
            self.text.push(token);
            tokens.push(token);
            let (piece, stopped) = watch.push(&stream.push(token));
            let broken_off = say(&piece, &mut text).is_break();
            if stopped {
                break StopReason::Stop;
            }
            if broken_off {
                break StopReason::Cancelled;
            }
        };
        if matches!(ending, StopReason::Length | StopReason::EndOfText) {
            // The held-back tail was no stop string after all, and no whole letter follows.
            let (piece, stopped) = watch.push(&stream.finish());
            let _ = say(&piece, &mut text);
            if !stopped {
                let _ = say(&watch.finish(), &mut text);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(GeneratedText {
            text,
            tokens,
            ending,
            prompt_tokens,
            unseen_tokens,
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

    /// The scores of every token as the next one after `tokens`, `[vocabulary]`. Of more tokens
    /// than the context, only the last count. Drops the text so far.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.reset();
        self.text.extend_from_slice(tokens);
        self.next()
    }

    /// Reads the unread end of the text, and returns the scores of every token as the next one. If
    /// memory runs out, reads the text again with less.
    fn next(&mut self) -> Result<Vec<f32>> {
        loop {
            let context = self.spec.context;
            if self.text.len() > context {
                let keep = if self.read == 0 { context } else { context / 2 };
                self.text.drain(..self.text.len() - keep);
                self.read = 0;
                self.engine.begin_text();
            }
            match self.engine.read_text(&self.text[self.read..]) {
                Ok(logits) => {
                    self.read = self.text.len();
                    return Ok(logits);
                }
                Err(error @ Error::OutOfMemory { .. }) => {
                    // The engine has dropped the text.
                    self.read = 0;
                    if !self.spare() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Spares memory: reads fewer tokens at once or, if that is not enough, sees fewer. Returns
    /// whether that is possible.
    fn spare(&mut self) -> bool {
        if self.engine.read_fewer_at_once() {
            return true;
        }
        let shorter = self.spec.context.min(self.text.len()) / 2;
        if shorter < LEAST_CONTEXT {
            return false;
        }
        tracing::warn!(
            tokens = shorter,
            "the device ran out of memory; the model sees fewer tokens at once"
        );
        self.spec.context = shorter;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initial::initial_weights;

    fn generator(spec: &ModelSpec) -> TextGenerator {
        let weights = initial_weights(spec, &[3; 32]).unwrap();
        TextGenerator::new(spec.clone(), Tokeniser::Bytes, &weights, &OpenDevice::cpu()).unwrap()
    }

    #[test]
    fn a_text_that_runs_out_of_memory_is_read_with_less() {
        let spec = ModelSpec {
            context: 256,
            ..ModelSpec::preset("nano").unwrap()
        };
        let tokens: Vec<u32> = (0..200).map(|place| place % 97).collect();
        let (mut rich, mut poor) = (generator(&spec), generator(&spec));
        let whole = rich.logits(&tokens).unwrap();
        let off = |found: &[f32], expected: &[f32]| {
            let pairs = found.iter().zip(expected);
            pairs.fold(0.0_f32, |worst, (left, right)| {
                worst.max((left - right).abs())
            })
        };

        // Fewer tokens at once are enough: nothing of the text is lost.
        poor.engine.most_text = 16 * 200;
        assert!(off(&poor.logits(&tokens).unwrap(), &whole) < 1e-4);
        assert_eq!(poor.spec.context, 256);

        // They are not enough: the model sees the end of the text.
        poor.engine.most_text = 8 * 100;
        let found = poor.logits(&tokens).unwrap();
        assert_eq!(poor.spec.context, 100);
        assert!(off(&found, &rich.logits(&tokens[100..]).unwrap()) < 1e-4);

        // In the middle of a text, too; and the number of tokens that were not seen is right.
        let mut poor = generator(&spec);
        poor.engine.most_text = 8 * 40;
        let sampling = Sampling {
            max_tokens: 40,
            ..Sampling::default()
        };
        let prompt = "x".repeat(50);
        let made = poor
            .generate(&prompt, &sampling, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        assert_eq!((made.tokens.len(), made.prompt_tokens), (40, 50));
        assert_eq!((poor.spec.context, made.unseen_tokens), (25, 25));

        poor.engine.most_text = 1;
        let error = poor.logits(&tokens).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    }
}
