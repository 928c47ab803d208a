//! Scores of chosen tokens after windows of text, for evaluation. Only the rows that are asked for
//! go through the output projection.

use burn::tensor::{Int, Tensor, activation};
use rayon::prelude::*;

use crate::engine::handle::Engine;
use crate::engine::passes::Passes;
use crate::error::Result;

/// A window of text, and the tokens whose scores are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScoredWindow {
    /// The text.
    pub tokens: Vec<u32>,
    /// Positions in the text, and a token that may come after each.
    pub targets: Vec<(usize, u32)>,
}

/// How likely a token is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct TokenScore {
    /// log p, in nats.
    pub log_likelihood: f32,
    /// Whether no token is likelier.
    pub is_likeliest: bool,
}

impl Engine {
    /// The scores of all windows' targets, window by window. Windows are padded to `length` tokens,
    /// which none of them exceeds.
    pub(crate) fn token_scores(
        &mut self,
        windows: &[ScoredWindow],
        length: usize,
    ) -> Result<Vec<TokenScore>> {
        self.evaluated("scoring tokens", windows.len(), |engine, trade_off| {
            let mut scores = Vec::new();
            for some in windows.chunks(trade_off.sequences.max(1)) {
                scores.extend(engine.passes(length, trade_off).scores(some)?);
            }
            Ok(scores)
        })
    }
}

impl Passes<'_> {
    fn scores(&self, windows: &[ScoredWindow]) -> Result<Vec<TokenScore>> {
        let threads = if self.transfer.is_cpu() {
            rayon::current_num_threads()
        } else {
            1
        };
        let parts: Vec<_> = windows
            .chunks(windows.len().div_ceil(threads).max(1))
            .collect();
        let scores: Result<Vec<_>> = if parts.len() == 1 {
            parts
                .into_iter()
                .map(|part| self.part_scores(part))
                .collect()
        } else {
            // Each thread has its own handles of model and weights.
            let parts: Vec<_> = parts
                .into_iter()
                .map(|part| (self.model.clone(), self.weights.to_vec(), part))
                .collect();
            parts
                .into_par_iter()
                .map(|(model, weights, part)| {
                    let passes = Passes {
                        model: &model,
                        weights: &weights,
                        ..*self
                    };
                    passes.part_scores(part)
                })
                .collect()
        };
        Ok(scores?.concat())
    }

    fn part_scores(&self, windows: &[ScoredWindow]) -> Result<Vec<TokenScore>> {
        let length = self.model.length();
        let inputs = windows.iter().flat_map(|window| {
            let padding = std::iter::repeat(0);
            window.tokens.iter().copied().chain(padding).take(length)
        });
        let stream = self
            .model
            .stream(self.weights, self.transfer.upload_tokens(inputs));
        let targets: Vec<(usize, u32)> = windows
            .iter()
            .enumerate()
            .flat_map(|(row, window)| {
                let here = move |(place, token): &(usize, u32)| (row * length + place, *token);
                window.targets.iter().map(here)
            })
            .collect();
        let at_once = self.model.rows_at_once(&self.trade_off);
        let mut scores = Vec::with_capacity(targets.len());
        for some in targets.chunks(at_once) {
            // A GPU compiles kernels for each shape, so shapes are few.
            let rows = some.len().next_power_of_two().min(at_once.max(some.len()));
            let padded = || some.iter().chain(std::iter::repeat(&(0, 0))).take(rows);
            let places = self
                .transfer
                .upload_tokens(padded().map(|(place, _)| *place as u32));
            let tokens = self
                .transfer
                .upload_tokens(padded().map(|(_, token)| *token));
            let found = self.rows(stream.clone().select(0, places), tokens);
            let found = self.transfer.read(found, "scoring tokens")?;
            let found = found.chunks_exact(2).take(some.len());
            scores.extend(found.map(|pair| TokenScore {
                log_likelihood: pair[0],
                is_likeliest: pair[0] >= pair[1],
            }));
        }
        Ok(scores)
    }

    /// log p of each token and of the likeliest, `[rows, 2]`.
    fn rows(&self, stream: Tensor<2>, tokens: Tensor<1, Int>) -> Tensor<2> {
        let all = activation::log_softmax(self.model.logits(self.weights, stream), 1);
        let likeliest = all.clone().max_dim(1);
        Tensor::cat(vec![all.gather(1, tokens.unsqueeze_dim(1)), likeliest], 1)
    }
}
