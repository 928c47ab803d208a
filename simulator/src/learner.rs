//! One peer's training: AdamW from the round's weights, then error feedback and compression.

use weal_kernels::update::{AdamW, adamw};
use weal_kernels::{Compression, Contribution, Error, Layout, add_back, compress, pseudo_gradient};

use crate::model::{PARAMETERS, add_gradient};
use crate::source::Example;

/// Optimiser steps in a round.
pub(crate) const STEPS: u32 = 10;
/// Documents in an optimiser step.
pub(crate) const BATCH: u32 = 6;
/// How contributions are compressed. The model is small, so its chunks are small and keep a larger
/// part than those of a real run.
pub(crate) const COMPRESSION: Compression = Compression {
    chunk: 256,
    keep: 32,
    decay_ppm: 900_000,
};

const RATE: f32 = 0.01;
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99;

/// What a peer carries from round to round.
#[derive(Debug, Clone)]
pub(crate) struct Learner {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
    /// What it has not sent yet.
    error: Vec<f32>,
    /// Its last contribution, until it is known whether it was chosen.
    pending: Option<Contribution>,
}

impl Learner {
    /// A peer that has not trained yet.
    pub(crate) fn new() -> Self {
        Self {
            first: vec![0.0; PARAMETERS],
            second: vec![0.0; PARAMETERS],
            steps: 0,
            error: vec![0.0; PARAMETERS],
            pending: None,
        }
    }

    /// Trains on the batches, one optimiser step each. Returns the pseudo-gradient: the weights
    /// before less those after.
    ///
    /// # Errors
    /// None while the model's size is fixed.
    pub(crate) fn train(
        &mut self,
        base: &[f32],
        batches: &[Vec<Example>],
    ) -> Result<Vec<f32>, Error> {
        let mut weights = base.to_vec();
        let mut gradient = vec![0.0; PARAMETERS];
        for batch in batches {
            gradient.fill(0.0);
            add_gradient(&weights, batch, &mut gradient);
            self.steps += 1;
            let correction = |beta: f32| 1.0 / (1.0 - beta.powi(self.steps));
            let settings = AdamW {
                scale: 1.0,
                beta1: BETA1,
                beta2: BETA2,
                rate: RATE * correction(BETA1),
                correction2: correction(BETA2),
                epsilon: 1e-8,
                kept: 1.0,
            };
            let moments = (&mut self.first, &mut self.second);
            adamw(&mut weights, moments.0, moments.1, &gradient, &settings);
        }
        pseudo_gradient(base, &mut weights)?;
        Ok(weights)
    }

    /// Compresses a pseudo-gradient to the body of a contribution, and keeps the rest for later.
    ///
    /// # Errors
    /// If it holds a value that is not finite.
    pub(crate) fn compress(
        &mut self,
        layout: &Layout,
        mut delta: Vec<f32>,
    ) -> Result<Vec<u8>, Error> {
        let body = compress(layout, &COMPRESSION, &self.error, &mut delta)?;
        self.error = delta;
        self.pending = Some(weal_kernels::decode(
            layout,
            &COMPRESSION,
            &body,
            body.len(),
        )?);
        Ok(body)
    }

    /// What it would send if it sent everything: this pseudo-gradient and the error feedback.
    pub(crate) fn wants(&self, delta: &[f32]) -> Vec<f32> {
        let decay = COMPRESSION.decay_ppm as f32 / 1e6;
        let both = self.error.iter().zip(delta);
        both.map(|(error, delta)| decay * error + delta).collect()
    }

    /// Its last contribution was decided on. What was not chosen goes back into the error feedback.
    ///
    /// # Errors
    /// None while the model's size is fixed.
    pub(crate) fn settle(&mut self, layout: &Layout, chosen: bool) -> Result<(), Error> {
        match self.pending.take() {
            Some(contribution) if !chosen => add_back(layout, &contribution, &mut self.error),
            _ => Ok(()),
        }
    }
}

impl Default for Learner {
    fn default() -> Self {
        Self::new()
    }
}
