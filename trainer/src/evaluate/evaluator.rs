//! [`Evaluator`]: perplexity of a text, and how likely continuations are.

use std::sync::Arc;

use super::harness::{Request, RequestScore, rstrip};
use super::windows::{Scored, shared};
use crate::device::OpenDevice;
use crate::engine::{Engine, ScoredWindow};
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::learner::Evaluation;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// Tokens evaluated at once.
const TOKENS_AT_ONCE: usize = 2048;
/// Windows are padded to a multiple of this many tokens, and on a GPU, where each length needs its
/// own kernels, to a power of two.
const STEP: usize = 16;

/// A model with weights to evaluate.
pub struct Evaluator {
    spec: ModelSpec,
    tokeniser: Tokeniser,
    engine: Engine,
    is_gpu: bool,
}

impl Evaluator {
    /// Loads `weights` onto `device`.
    ///
    /// # Errors
    /// If weights or tokeniser do not fit the model, or the device fails.
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
            tokeniser,
            engine,
            is_gpu: device.is_gpu(),
        })
    }

    /// The loss on a text, in consecutive windows of the model's context: every token but the first
    /// is predicted once, from those before it in its window.
    ///
    /// # Errors
    /// If the text has fewer than two tokens, or the device fails.
    pub fn text(&mut self, text: &[u8], progress: &mut dyn FnMut(u64, u64)) -> Result<Evaluation> {
        let mut tokens = self.tokeniser.encode_with_ends(text)?;
        if let Some(first) = self.tokeniser.special().first() {
            tokens.ids.insert(0, first);
            tokens.ends.insert(0, 0);
        }
        let count = tokens.ids.len();
        if count < 2 {
            return Err(Error::TextTooShort { tokens: count });
        }
        let context = self.spec.context;
        let windows: Vec<Scored> = (0..count - 1)
            .step_by(context)
            .map(|start| {
                let tokens = tokens.ids[start..count.min(start + context + 1)].to_vec();
                Scored::after(tokens, 1, context)
            })
            .collect();
        let scores = self.scores(&windows, progress)?;
        let nats: f64 = scores.iter().map(|score| -score.log_likelihood).sum();
        let (predicted, bytes) = ((count - 1) as u64, tokens.ends[count - 1] - tokens.ends[0]);
        Ok(Evaluation {
            nats_per_byte: nats / bytes.max(1) as f64,
            nats_per_token: nats / predicted as f64,
            tokens: predicted,
            bytes,
        })
    }

    /// How likely each continuation is after its context. `progress` gets requests done and
    /// requests in total.
    ///
    /// # Errors
    /// If the tokeniser or the device fails.
    pub fn requests<'a>(
        &mut self,
        requests: impl IntoIterator<Item = &'a Request>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<RequestScore>> {
        let mut texts = Vec::new();
        let mut last: Option<(Arc<str>, usize)> = None;
        for request in requests {
            // Choices of one question share its context.
            let length = match &last {
                Some((context, length)) if Arc::ptr_eq(context, &request.context) => *length,
                _ => self.context_length(&request.context)?,
            };
            last = Some((request.context.clone(), length));
            let (tokens, first) = self.pair(request, length)?;
            texts.push(Scored::after(tokens, first, self.spec.context));
        }
        self.scores(&texts, progress)
    }

    /// Tokens of a context. White space at its end belongs to the continuation.
    fn context_length(&self, context: &str) -> Result<usize> {
        Ok(self.begun(rstrip(context))?.len())
    }

    /// The tokens of a text, with what the tokeniser puts before every text. A text that begins
    /// with that token's name has it once.
    fn begun(&self, text: &str) -> Result<Vec<u32>> {
        let Some(first) = self.tokeniser.special().first() else {
            return self.tokeniser.encode(text.as_bytes());
        };
        let name = self.tokeniser.name_of(first);
        let rest = name.and_then(|name| text.strip_prefix(name.as_str()));
        let mut tokens = vec![first];
        tokens.extend(self.tokeniser.encode(rest.unwrap_or(text).as_bytes())?);
        Ok(tokens)
    }

    /// The tokens of a request, and where its continuation begins: context, of `length` tokens, and
    /// continuation are encoded together, as they would be in a text.
    fn pair(&self, request: &Request, length: usize) -> Result<(Vec<u32>, usize)> {
        let whole = format!("{}{}", request.context, request.continuation);
        if length > 0 && !request.context.is_empty() {
            return Ok((self.begun(&whole)?, length));
        }
        // The first predicted token needs one before it.
        let special = self.tokeniser.special();
        let prefix = special.bos.or(special.end_of_text()).unwrap_or(0);
        let mut tokens = self.tokeniser.encode(whole.as_bytes())?;
        if tokens.first() != Some(&prefix) {
            tokens.insert(0, prefix);
        }
        Ok((tokens, 1))
    }

    /// The scores of all texts. Windows of similar length are batched.
    fn scores(
        &mut self,
        texts: &[Scored],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<RequestScore>> {
        let mut scores = vec![
            RequestScore {
                log_likelihood: 0.0,
                is_greedy: true,
            };
            texts.len()
        ];
        let mut windows = shared(texts);
        // The longest first: what does not fit the memory shows at once.
        windows.sort_by_key(|shared| std::cmp::Reverse(shared.window.tokens.len()));
        let mut rest = windows.as_mut_slice();
        let mut done = 0;
        while let Some(longest) = rest.first() {
            let length = self.padded(longest.window.tokens.len());
            let count = (TOKENS_AT_ONCE / length).clamp(1, rest.len());
            let (batch, after) = rest.split_at_mut(count);
            rest = after;
            let batched: Vec<ScoredWindow> = batch
                .iter_mut()
                .map(|shared| std::mem::take(&mut shared.window))
                .collect();
            let found = self.engine.token_scores(&batched, length)?;
            let mut found = found.into_iter();
            for (text, targets) in batch.iter().flat_map(|shared| &shared.texts) {
                let score = &mut scores[*text];
                for token in found.by_ref().take(*targets) {
                    score.log_likelihood += f64::from(token.log_likelihood);
                    score.is_greedy &= token.is_likeliest;
                }
                done += 1;
            }
            progress(done, texts.len() as u64);
        }
        Ok(scores)
    }

    /// The length to which windows of `length` tokens are padded.
    fn padded(&self, length: usize) -> usize {
        let padded = length.max(1).next_multiple_of(STEP);
        let padded = if self.is_gpu {
            padded.next_power_of_two()
        } else {
            padded
        };
        padded.min(self.spec.context)
    }
}
