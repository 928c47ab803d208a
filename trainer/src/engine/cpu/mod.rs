//! The engine for processors: a hand-written forward and backward pass over flat buffers.
//!
//! A batch is divided among the threads of the current rayon pool; each takes whole sequences through the whole model
//! and sums its own gradient, so that threads meet once a step. The result depends on the number of threads in its
//! last bits, which training may.

mod attention;
mod matmul;
mod pass;
mod simd;

use rayon::prelude::*;

use self::pass::{Pass, Plan, Share};
use crate::engine::{ADAM_EPSILON, Batch, Engine, MomentVectors, StepReport, Update};
use crate::error::Result;
use crate::spec::ModelSpec;

/// Tokens that go through the model together: enough for the matrix products, few enough for the caches.
const ROWS_TOGETHER: usize = 512;

/// Values that one task of an element-wise pass takes.
const STRIPE: usize = 1 << 16;

/// Bytes of gradients that all threads together may hold before fewer threads are used.
const MOST_GRADIENT_BYTES: usize = 4 << 30;

/// The engine; see the module.
pub(crate) struct CpuEngine {
    plan: Plan,
    weights: Vec<f32>,
    moments: MomentVectors,
    workers: Vec<Worker>,
}

/// What one thread works with.
#[derive(Default)]
struct Worker {
    pass: Pass,
    gradient: Vec<f32>,
    shares: Vec<Share>,
    /// Sum of the losses of its shares, in nats.
    loss: f64,
}

impl CpuEngine {
    /// An engine for `spec`, with weights and moments of zero.
    pub fn new(spec: &ModelSpec) -> Result<Self> {
        let layout = spec.layout()?;
        let zeros = vec![0.0; layout.parameters()];
        Ok(Self {
            plan: Plan::new(spec, &layout),
            weights: zeros.clone(),
            moments: MomentVectors { first: zeros.clone(), second: zeros },
            workers: Vec::new(),
        })
    }

    /// Gives every worker its share of the batch, in pieces of about [`ROWS_TOGETHER`] tokens.
    fn divide(&mut self, batch: &Batch) {
        let affordable = (MOST_GRADIENT_BYTES / (self.weights.len() * 4)).max(1);
        let threads = rayon::current_num_threads().min(batch.sequences()).clamp(1, affordable);
        self.workers.resize_with(threads, Worker::default);
        let sequence = batch.length() + 1;
        let together = (ROWS_TOGETHER / batch.length()).max(1);
        let mut rest = batch.rows();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let sequences = batch.sequences() * (index + 1) / threads - batch.sequences() * index / threads;
            let (own, others) = rest.split_at(sequences * sequence);
            rest = others;
            worker.shares = own.chunks(together * sequence).map(|rows| Share::new(rows, batch.length())).collect();
        }
    }

    /// Leaves the gradient of the batch's mean loss in the first worker; gives back the sum of the losses.
    fn backward(&mut self, batch: &Batch) -> f64 {
        self.divide(batch);
        let (plan, weights) = (&self.plan, &self.weights);
        let scale = 1.0 / batch.predictions() as f32;
        self.workers.par_iter_mut().for_each(|worker| {
            worker.gradient.clear();
            worker.gradient.resize(weights.len(), 0.0);
            let (pass, gradient) = (&mut worker.pass, &mut worker.gradient);
            worker.loss = worker.shares.iter().map(|share| pass.backward(plan, weights, share, scale, gradient)).sum();
        });
        let loss = self.workers.iter().map(|worker| worker.loss).sum();
        if let Some((first, others)) = self.workers.split_first_mut() {
            for other in others {
                let stripes = first.gradient.par_chunks_mut(STRIPE).zip(other.gradient.par_chunks(STRIPE));
                stripes.for_each(|(sum, term)| simd::add(sum, term));
            }
        }
        loss
    }

    fn gradient_norm(&self) -> f64 {
        let squares = |stripe: &[f32]| f64::from(simd::dot(stripe, stripe));
        self.workers[0].gradient.par_chunks(STRIPE).map(squares).collect::<Vec<_>>().iter().sum::<f64>().sqrt()
    }

    fn update(&mut self, update: &Update, gradient_norm: f64) {
        let factors = |decays: bool| simd::AdamW {
            clip: update.clip_factor(gradient_norm) as f32,
            beta1: update.beta1 as f32,
            beta2: update.beta2 as f32,
            rate: (update.learning_rate * update.correction1()) as f32,
            correction2: update.correction2() as f32,
            epsilon: ADAM_EPSILON,
            keep: if decays { (1.0 - update.learning_rate * update.decay) as f32 } else { 1.0 },
        };
        let (matrices, gains) = (factors(true), factors(false));
        let gradient = &self.workers[0].gradient;
        for (range, is_matrix) in self.plan.ranges.iter().zip(&self.plan.is_matrix) {
            let factors = if *is_matrix { &matrices } else { &gains };
            let weights = self.weights[range.clone()].par_chunks_mut(STRIPE);
            let first = self.moments.first[range.clone()].par_chunks_mut(STRIPE);
            let second = self.moments.second[range.clone()].par_chunks_mut(STRIPE);
            let gradient = gradient[range.clone()].par_chunks(STRIPE);
            weights.zip(gradient).zip(first.zip(second)).for_each(|((weights, gradient), (first, second))| {
                simd::adamw(weights, gradient, first, second, factors);
            });
        }
    }
}

impl Share {
    fn new(rows: &[u32], length: usize) -> Self {
        let rows = || rows.chunks_exact(length + 1);
        Self {
            inputs: rows().flat_map(|row| &row[..length]).copied().collect(),
            targets: rows().flat_map(|row| &row[1..]).copied().collect(),
            length,
        }
    }
}

impl Engine for CpuEngine {
    fn load(&mut self, weights: &[f32]) -> Result<()> {
        self.weights.copy_from_slice(weights);
        Ok(())
    }

    fn weights(&mut self) -> Result<Vec<f32>> {
        Ok(self.weights.clone())
    }

    fn step(&mut self, batch: &Batch, update: &Update) -> Result<StepReport> {
        let loss = self.backward(batch) / batch.predictions() as f64;
        let report = StepReport { loss, gradient_norm: self.gradient_norm() };
        if report.is_finite() {
            self.update(update, report.gradient_norm);
        }
        Ok(report)
    }

    fn loss(&mut self, batch: &Batch) -> Result<f64> {
        self.divide(batch);
        let (plan, weights) = (&self.plan, &self.weights);
        self.workers.par_iter_mut().for_each(|worker| {
            worker.loss = worker.shares.iter().map(|share| worker.pass.loss(plan, weights, share)).sum();
        });
        Ok(self.workers.iter().map(|worker| worker.loss).sum())
    }

    #[cfg(test)]
    fn gradient(&mut self, batch: &Batch) -> Result<(Vec<f32>, f64)> {
        let loss = self.backward(batch) / batch.predictions() as f64;
        Ok((self.workers[0].gradient.clone(), loss))
    }

    fn next_token_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        if self.workers.is_empty() {
            self.workers.push(Worker::default());
        }
        Ok(self.workers[0].pass.last_logits(&self.plan, &self.weights, tokens))
    }

    fn moments(&mut self) -> Result<MomentVectors> {
        Ok(self.moments.clone())
    }

    fn set_moments(&mut self, moments: &MomentVectors) -> Result<()> {
        self.moments.first.copy_from_slice(&moments.first);
        self.moments.second.copy_from_slice(&moments.second);
        Ok(())
    }
}
