//! How good a model is: perplexity of text, and multiple choice.

mod tasks;

use std::ops::Range;

use crate::device::OpenDevice;
use crate::engine::{Batch, Engine};
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::learner::Evaluation;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

pub use tasks::{Form, Question, questions};

/// Tokens that are computed at once.
const TOKENS_AT_ONCE: usize = 2048;
/// The shortest window that is computed; shorter ones are filled up, since each length has kernels
/// of its own on a GPU.
const SHORTEST: usize = 16;

/// A model with weights, ready to be examined.
pub struct Evaluator {
    spec: ModelSpec,
    tokeniser: Tokeniser,
    end_of_text: Option<u32>,
    engine: Engine,
}

/// How a model did on questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choices {
    /// Questions.
    pub questions: usize,
    /// Part of the questions whose right answer is the likeliest.
    pub accuracy: f64,
    /// Part of the questions whose right answer is the likeliest for its length: log p over its
    /// letters.
    pub normalised_accuracy: f64,
}

impl Choices {
    /// Standard error of an accuracy over these questions.
    pub fn standard_error(&self, accuracy: f64) -> f64 {
        (accuracy * (1.0 - accuracy) / (self.questions.max(2) - 1) as f64).sqrt()
    }
}

/// Tokens, and which of them are predicted and count.
struct Window {
    tokens: Vec<u32>,
    scored: Range<usize>,
}

impl Evaluator {
    /// An evaluator of `weights` on `device`.
    ///
    /// # Errors
    /// Where the parts do not belong together, or the device refuses the model.
    pub fn new(
        spec: ModelSpec,
        tokeniser: Tokeniser,
        end_of_text: Option<u32>,
        weights: &[f32],
        device: &OpenDevice,
    ) -> Result<Self> {
        check_weights(&spec.layout()?, weights)?;
        let known = tokeniser.vocabulary();
        if known > spec.vocabulary {
            return Err(Error::Vocabulary {
                tokeniser: known,
                model: spec.vocabulary,
            });
        }
        let mut engine = device.engine(&spec)?;
        engine.load(weights)?;
        Ok(Self {
            spec,
            tokeniser,
            end_of_text,
            engine,
        })
    }

    /// The loss on a text, in windows of the model's context one after the other: every token but
    /// the first is predicted once, from those before it in its window.
    ///
    /// # Errors
    /// Where the text has fewer than two tokens, or the device fails.
    pub fn text(&mut self, text: &[u8], progress: &mut dyn FnMut(u64, u64)) -> Result<Evaluation> {
        let tokens = self.tokeniser.encode_with_ends(text)?;
        let count = tokens.ids.len();
        if count < 2 {
            return Err(Error::DataTooShort {
                part: "given",
                found: count,
                context: 1,
                needed: 2,
            });
        }
        let context = self.spec.context;
        let windows: Vec<Window> = (0..count - 1)
            .step_by(context)
            .map(|start| {
                let tokens = tokens.ids[start..count.min(start + context + 1)].to_vec();
                Window {
                    scored: 1..tokens.len(),
                    tokens,
                }
            })
            .collect();
        let nats: f64 = self
            .log_likelihoods(&windows, progress)?
            .iter()
            .map(|likelihood| -likelihood)
            .sum();
        let (predicted, bytes) = ((count - 1) as u64, tokens.ends[count - 1] - tokens.ends[0]);
        Ok(Evaluation {
            nats_per_byte: nats / bytes.max(1) as f64,
            nats_per_token: nats / predicted as f64,
            tokens: predicted,
            bytes,
        })
    }

    /// Answers questions: of every choice the likelihood of its tokens after the question's is
    /// taken.
    ///
    /// # Errors
    /// Where the tokeniser or the device fails.
    pub fn choices(
        &mut self,
        questions: &[Question],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Choices> {
        let mut windows = Vec::new();
        for question in questions {
            for choice in &question.choices {
                windows.push(self.window(&question.context, choice)?);
            }
        }
        let likelihoods = self.log_likelihoods(&windows, progress)?;
        let (mut right, mut right_by_length) = (0, 0);
        let mut rest = likelihoods.as_slice();
        for question in questions {
            let (own, after) = rest.split_at(question.choices.len());
            rest = after;
            let letters = |choice: &String| choice.chars().count().max(1) as f64;
            let by_length: Vec<f64> = own
                .iter()
                .zip(&question.choices)
                .map(|(l, choice)| l / letters(choice))
                .collect();
            right += usize::from(best(own) == question.answer);
            right_by_length += usize::from(best(&by_length) == question.answer);
        }
        let part = |right: usize| right as f64 / questions.len().max(1) as f64;
        Ok(Choices {
            questions: questions.len(),
            accuracy: part(right),
            normalised_accuracy: part(right_by_length),
        })
    }

    /// A choice after its question. Both are made tokens of together, as text that was read would
    /// be.
    fn window(&self, context: &str, choice: &str) -> Result<Window> {
        let whole = format!("{context} {choice}");
        let mut before = self.tokeniser.encode(context.as_bytes())?;
        let mut tokens = self.tokeniser.encode(whole.as_bytes())?;
        if before.is_empty() {
            // Something must come before the first token that is predicted.
            before.push(self.end_of_text.unwrap_or(0));
            tokens.insert(0, before[0]);
        }
        let first = before.len().min(tokens.len().saturating_sub(1)).max(1);
        let cut = tokens
            .len()
            .saturating_sub(self.spec.context + 1)
            .min(tokens.len() - 1);
        tokens.drain(..cut);
        let scored = first.saturating_sub(cut).max(1)..tokens.len();
        Ok(Window { tokens, scored })
    }

    /// log p of the scored tokens of every window. Windows of like length are computed together.
    fn log_likelihoods(
        &mut self,
        windows: &[Window],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<f64>> {
        let length = |window: &Window| {
            (window.tokens.len() - 1)
                .next_power_of_two()
                .clamp(SHORTEST.min(self.spec.context), self.spec.context)
        };
        let mut order: Vec<usize> = (0..windows.len()).collect();
        order.sort_by_key(|window| length(&windows[*window]));
        let mut likelihoods = vec![0.0; windows.len()];
        let mut done = 0;
        for same in order.chunk_by(|a, b| length(&windows[*a]) == length(&windows[*b])) {
            let length = length(&windows[same[0]]);
            for some in same.chunks((TOKENS_AT_ONCE / length).max(1)) {
                let rows = some.iter().map(|window| {
                    let mut row = windows[*window].tokens.clone();
                    row.resize(length + 1, 0);
                    row
                });
                let losses = self.engine.token_losses(&Batch::new(rows, length))?;
                for (window, losses) in some.iter().zip(losses.chunks_exact(length)) {
                    let scored = &windows[*window].scored;
                    let scored = &losses[scored.start - 1..scored.end - 1];
                    likelihoods[*window] = -scored.iter().map(|loss| f64::from(*loss)).sum::<f64>();
                }
                done += some.len() as u64;
                progress(done, windows.len() as u64);
            }
        }
        Ok(likelihoods)
    }
}

/// The first of the highest.
fn best(values: &[f64]) -> usize {
    let highest = |best: usize, place: usize| {
        if values[place] > values[best] {
            place
        } else {
            best
        }
    };
    (0..values.len()).fold(0, highest)
}
