//! [`TextGenerator`]: continues a text token by token.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::choice::{Random, Sampling, choose};
use super::stop::StopWatch;
use crate::device::OpenDevice;
use crate::engine::Engine;
use crate::error::Result;
use crate::initial::check_weights;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

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
        tokeniser.check_fits(&spec)?;
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
