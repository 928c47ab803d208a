//! [`Evaluator`]: perplexity of a text, and accuracy on multiple-choice questions.

use std::ops::Range;

use super::questions::Question;
use crate::device::OpenDevice;
use crate::engine::{Batch, Engine};
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::learner::Evaluation;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// Tokens evaluated at once.
const TOKENS_AT_ONCE: usize = 2048;
/// The shortest window; shorter texts are padded, because each length needs its own kernels on a
/// GPU.
const SHORTEST: usize = 16;

/// A model with weights to evaluate.
pub struct Evaluator {
    spec: ModelSpec,
    tokeniser: Tokeniser,
    end_of_text: Option<u32>,
    engine: Engine,
}

/// A model's scores on multiple-choice questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChoiceScores {
    /// Number of questions.
    pub questions: usize,
    /// Share of the questions whose right answer is the likeliest.
    pub accuracy: f64,
    /// Share of the questions whose right answer is the likeliest for its length: log p divided by
    /// its characters.
    pub normalised_accuracy: f64,
}

impl ChoiceScores {
    /// Standard error of an accuracy over these questions.
    pub fn standard_error(&self, accuracy: f64) -> f64 {
        (accuracy * (1.0 - accuracy) / (self.questions.max(2) - 1) as f64).sqrt()
    }
}

/// Tokens, and which of them are scored.
struct Window {
    tokens: Vec<u32>,
    scored: Range<usize>,
}

impl Evaluator {
    /// Loads `weights` onto `device`.
    ///
    /// # Errors
    /// If weights or tokeniser do not fit the model, or the device fails.
    pub fn new(
        spec: ModelSpec,
        tokeniser: Tokeniser,
        end_of_text: Option<u32>,
        weights: &[f32],
        device: &OpenDevice,
    ) -> Result<Self> {
        check_weights(&spec.layout()?, weights)?;
        tokeniser.check_fits(&spec)?;
        let mut engine = Engine::on(device, &spec)?;
        engine.load(weights)?;
        Ok(Self {
            spec,
            tokeniser,
            end_of_text,
            engine,
        })
    }

    /// The loss on a text, in consecutive windows of the model's context: every token but the first
    /// is predicted once, from those before it in its window.
    ///
    /// # Errors
    /// If the text has fewer than two tokens, or the device fails.
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

    /// Scores the model on questions: its answer is the choice whose tokens are likeliest after the
    /// question. `progress` gets choices done and choices in total.
    ///
    /// # Errors
    /// If the tokeniser or the device fails.
    pub fn choices(
        &mut self,
        questions: &[Question],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ChoiceScores> {
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
            let (scores, after) = rest.split_at(question.choices.len());
            rest = after;
            let letters = |choice: &String| choice.chars().count().max(1) as f64;
            let by_length: Vec<f64> = scores
                .iter()
                .zip(&question.choices)
                .map(|(l, choice)| l / letters(choice))
                .collect();
            right += usize::from(best(scores) == question.answer);
            right_by_length += usize::from(best(&by_length) == question.answer);
        }
        let part = |right: usize| right as f64 / questions.len().max(1) as f64;
        Ok(ChoiceScores {
            questions: questions.len(),
            accuracy: part(right),
            normalised_accuracy: part(right_by_length),
        })
    }

    /// A choice after its question. Both are tokenised together, as they would be in a text.
    fn window(&self, context: &str, choice: &str) -> Result<Window> {
        let whole = format!("{context} {choice}");
        let mut before = self.tokeniser.encode(context.as_bytes())?;
        let mut tokens = self.tokeniser.encode(whole.as_bytes())?;
        if before.is_empty() {
            // The first predicted token needs a token before it.
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

    /// log p of the scored tokens of every window. Windows of similar length are batched.
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

/// The index of the highest value; of several, the first.
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
