//! How fast a device trains, next to how fast it can multiply matrices.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};

use crate::compute::ComputePlan;
use crate::corpus::{Corpus, Source};
use crate::device::OpenDevice;
use crate::engine::memory_in_use;
use crate::error::Result;
use crate::inner::InnerSpec;
use crate::learner::Learner;
use crate::sampling::Assignment;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// Rows and columns of the matrices that are multiplied.
const MATRIX: usize = 1024;
/// How often.
const PRODUCTS: usize = 5;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainLoad {
    /// Sequences of a step.
    pub batch: u32,
    /// Steps that are timed; one before them is not.
    pub steps: u32,
    /// How the device is used.
    pub plan: ComputePlan,
}

/// How fast a model trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSpeed {
    /// The first step, in which a GPU compiles its kernels and chooses among them.
    pub first_step_seconds: f64,
    /// A later step: the median.
    pub step_seconds: f64,
    /// Tokens in a later step, over its time.
    pub tokens_per_second: f64,
    /// Floating-point operations of a token, forwards and backwards: see [`flops_per_token`].
    pub flops_per_token: f64,
    /// Floating-point operations a second of the best of some products of 1024 × 1024 matrices in
    /// f32.
    pub matrix_flops_per_second: f64,
    /// The most bytes that training held: of the device's memory, or of the process's beyond what
    /// it held before. `None` where the system does not say.
    pub peak_memory_bytes: Option<u64>,
    /// How long all steps together waited for data, the first one's included.
    pub data_wait_seconds: f64,
    /// Tokens a second that the data gives where nothing is trained on them.
    pub loader_tokens_per_second: f64,
}

impl TrainSpeed {
    /// What of the speed of large products reaches the training.
    pub fn flops_utilisation(&self) -> f64 {
        self.tokens_per_second * self.flops_per_token / self.matrix_flops_per_second
    }
}

impl OpenDevice {
    /// Trains a model from random weights on `corpus`, or on the generator's text, and measures.
    ///
    /// # Errors
    /// Where the model is out of range, the corpus too short for it, or the device fails.
    pub fn train_speed(
        &self,
        model: &ModelSpec,
        load: &TrainLoad,
        corpus: Option<Arc<Corpus>>,
    ) -> Result<TrainSpeed> {
        let matrix_flops_per_second = self.watched(|| matrix_speed(self.raw()));
        let resident = resident_bytes();
        let bytes = (model.context * 40).max(100_000);
        let corpus = match corpus {
            Some(corpus) => corpus,
            None => Arc::new(Corpus::new(
                &[Source::Generated {
                    seed: [0; 32],
                    bytes,
                }],
                Tokeniser::Bytes,
            )?),
        };
        let theta = crate::initial::initial_weights(model, &[0; 32])?;
        let inner = InnerSpec {
            batch: load.batch,
            steps: load.steps + 1,
            ..InnerSpec::default()
        };
        let mut learner = Learner::new(model.clone(), inner, corpus, self)?;
        learner.arrange(&load.plan)?;
        let assignment = Assignment {
            seed: [0; 32],
            peer: [0; 32],
        };
        let mut marks = vec![0.0];
        let trained = learner.train(&theta, &assignment, 0, &mut |progress| {
            marks.push(progress.seconds);
            ControlFlow::Continue(())
        })?;
        let steps: Vec<f64> = marks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (first_step_seconds, mut later) = (steps[0], steps[1..].to_vec());
        later.sort_by(f64::total_cmp);
        let step_seconds = later
            .get(later.len() / 2)
            .copied()
            .unwrap_or(first_step_seconds);
        let peak_memory_bytes = match memory_in_use(self.raw()) {
            Some(bytes) => Some(bytes),
            None => peak_resident_bytes()
                .zip(resident)
                .map(|(peak, before)| peak.saturating_sub(before)),
        };
        Ok(TrainSpeed {
            first_step_seconds,
            step_seconds,
            tokens_per_second: (load.batch as usize * model.context) as f64 / step_seconds,
            flops_per_token: flops_per_token(model)?,
            matrix_flops_per_second,
            peak_memory_bytes,
            data_wait_seconds: trained.data_seconds,
            loader_tokens_per_second: learner.loader_speed(&assignment, load.steps)?,
        })
    }
}

/// Floating-point operations of a token, forwards and backwards: 6 for every weight of a matrix it
/// is multiplied with, and 12 · layers · width of the queries · context for attention (Chowdhery et
/// al., 2022, appendix B).
///
/// # Errors
/// Where the model is out of range.
pub fn flops_per_token(model: &ModelSpec) -> Result<f64> {
    let parameters = model.layout()?.parameters();
    // An embedding of its own is looked up, and multiplied with nothing.
    let looked_up = if model.tied {
        0
    } else {
        model.vocabulary * model.width
    };
    let attention = 12 * model.layers * model.query_width() * model.context;
    Ok((6 * (parameters - looked_up) + attention) as f64)
}

fn matrix_speed(device: &Device) -> f64 {
    let matrix = || Tensor::<2>::random([MATRIX, MATRIX], Distribution::Default, device);
    let (left, right) = (matrix(), matrix());
    let product = || {
        let start = Instant::now();
        // What is read back is only there once the product is.
        let _ = left
            .clone()
            .matmul(right.clone())
            .slice([0..1, 0..1])
            .into_data();
        start.elapsed().as_secs_f64()
    };
    let best = (0..PRODUCTS)
        .map(|_| product())
        .fold(f64::INFINITY, f64::min);
    2.0 * (MATRIX as f64).powi(3) / best
}

/// Memory of this process, in bytes.
fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// The most there was.
fn peak_resident_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

fn status_bytes(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_as_in_palm() {
        let model = ModelSpec::preset("1b").unwrap();
        // 1.1 G weights, 65.5 M of them an embedding that is looked up; 22 layers, 2048 wide, 2048
        // tokens.
        let expected = 6.0 * (1_100_048_384.0 - 65_536_000.0) + 12.0 * 22.0 * 2048.0 * 2048.0;
        assert_eq!(flops_per_token(&model).unwrap(), expected);
    }

    #[test]
    fn a_model_that_trains_is_timed() {
        let model = ModelSpec {
            layers: 1,
            context: 32,
            ..ModelSpec::preset("nano").unwrap()
        };
        let load = TrainLoad {
            batch: 2,
            steps: 3,
            plan: ComputePlan::default(),
        };
        let speed = OpenDevice::cpu().train_speed(&model, &load, None).unwrap();
        assert!((speed.tokens_per_second * speed.step_seconds - 64.0).abs() < 1e-6);
        let used = speed.flops_utilisation();
        assert!(used > 0.0 && used < 2.0, "{speed:?}");
        assert!(
            speed.loader_tokens_per_second > speed.tokens_per_second,
            "{speed:?}"
        );
    }
}
