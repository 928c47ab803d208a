//! Forward and backward passes over a batch, shared out among the CPU's threads.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::engine::batch::Batch;
use crate::engine::gradient::{GradientOptions, Gradients, Part, TradeOff};
use crate::engine::model::Model;
use crate::engine::sums::Accumulate;
use crate::engine::transfer::Transfer;
use crate::error::{Error, Result};

/// The model with its weights, ready for passes over batches.
pub(super) struct Passes<'a> {
    pub model: &'a Model,
    pub weights: &'a [Tensor<2>],
    pub transfer: &'a Transfer,
    pub trade_off: TradeOff,
    /// Larger micro-batches panic as if memory had run out.
    #[cfg(test)]
    pub most_sequences: usize,
}

impl Passes<'_> {
    /// The loss of each predicted token, `[sequences · length, 1]`; 0 if it does not count.
    pub(super) fn losses(&self, batch: &Batch) -> Tensor<2> {
        #[cfg(test)]
        self.assert_fits(batch);
        let rows = self.model.rows_at_once(&self.trade_off);
        let losses = |model: &Model, weights: &[Tensor<2>], part: &Part| {
            let losses = model.losses(weights, part.inputs.clone(), part.targets.clone(), rows);
            match &part.target_weights {
                Some(target_weights) => losses * target_weights.clone(),
                None => losses,
            }
        };
        Tensor::cat(self.spread(batch, 1.0, losses), 0)
    }

    /// The gradients of the mean loss of the tokens that count, multiplied by `factor`, one
    /// micro-batch after the other. With a `sink` they are added up there, else in the result.
    pub(super) fn gradients<'s>(
        &self,
        batch: &Batch,
        factor: f32,
        sink: Option<&'s dyn Accumulate>,
    ) -> Result<Gradients<'s>> {
        let scale = factor / batch.learnt().max(1) as f32;
        let options = GradientOptions {
            trade_off: self.trade_off,
            sink,
        };
        let micro_batches = batch.micro_batches(self.trade_off.sequences);
        if self.trade_off.by_block && self.trade_off.recompute {
            let parts: Vec<_> = micro_batches
                .map(|part| self.upload(&part, scale))
                .collect();
            let (model, weights) = (self.model, self.weights);
            return Ok(model.gradients_recomputed(weights, &parts, &options));
        }
        let all = micro_batches
            .filter_map(|micro_batch| self.micro_batch_gradients(&micro_batch, scale, &options))
            .reduce(Gradients::join);
        all.ok_or(Error::Inner {
            key: "batch",
            value: "0".into(),
            rule: "it must be at least 1",
        })
    }

    fn micro_batch_gradients<'s>(
        &self,
        micro_batch: &Batch,
        scale: f32,
        options: &GradientOptions<'s>,
    ) -> Option<Gradients<'s>> {
        #[cfg(test)]
        self.assert_fits(micro_batch);
        let found = self.spread(micro_batch, scale, |model, weights, part| {
            model.gradients(weights, part, options)
        });
        found.into_iter().reduce(Gradients::join)
    }

    /// Whether each micro-batch of a batch goes through the model as a whole, and not in parts.
    pub(super) fn are_of_one_part(&self, batch: &Batch) -> bool {
        let sequences = batch.sequences().min(self.trade_off.sequences);
        sequences <= 1 || self.threads() == 1
    }

    fn threads(&self) -> usize {
        if self.transfer.is_cpu() {
            rayon::current_num_threads()
        } else {
            1
        }
    }

    #[cfg(test)]
    fn assert_fits(&self, micro_batch: &Batch) {
        assert!(
            micro_batch.sequences() <= self.most_sequences,
            "out of memory, for a test"
        );
    }

    fn upload(&self, part: &Batch, scale: f32) -> Part {
        let tokens: Vec<u32> = part.inputs().collect();
        let weights = part.target_weights();
        Part {
            inputs: self.transfer.upload_tokens(tokens.iter().copied()),
            tokens,
            targets: self.transfer.upload_tokens(part.targets()),
            target_weights: weights.map(|weights| self.transfer.upload_column(weights)),
            scale,
        }
    }

    /// Runs `work` for all sequences of a batch. On the CPU each thread takes some sequences
    /// through the whole model, because most single operations are too small to share out. A GPU
    /// takes all sequences at once.
    fn spread<T: Send>(
        &self,
        batch: &Batch,
        scale: f32,
        work: impl Fn(&Model, &[Tensor<2>], &Part) -> T + Send + Sync,
    ) -> Vec<T> {
        let threads = self.threads();
        let upload = |part: Batch| {
            let part = self.upload(&part, scale);
            (self.model.clone(), self.weights.to_vec(), part)
        };
        let parts: Vec<_> = batch
            .micro_batches(batch.sequences().div_ceil(threads))
            .map(upload)
            .collect();
        let one =
            |(model, weights, part): (Model, Vec<Tensor<2>>, Part)| work(&model, &weights, &part);
        if parts.len() == 1 {
            parts.into_iter().map(one).collect()
        } else {
            parts.into_par_iter().map(one).collect()
        }
    }
}
