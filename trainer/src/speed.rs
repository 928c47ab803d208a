//! Benchmarks of a device: training, and compressing contributions on a GPU.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use weal_kernels::{Compression, Layout};

use crate::compute_plan::ComputePlan;
use crate::corpus::{Corpus, TextSource};
use crate::device::OpenDevice;
use crate::engine::compress_tensors;
use crate::error::{Error, Result};
use crate::initial::initial_weights;
use crate::inner::InnerSpec;
use crate::launches::{KernelUse, LaunchWatch};
use crate::learner::Learner;
use crate::panic::panic_message;
use crate::sampling::Assignment;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// Rows and columns of the matrices in the product benchmark.
const MATRIX: usize = 1024;
/// Products timed; the fastest counts.
const PRODUCTS: usize = 5;

/// The training to benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainLoad {
    /// Sequences of a step.
    pub batch: u32,
    /// Steps to time, after one that is not timed.
    pub steps: u32,
    /// How the device is used.
    pub plan: ComputePlan,
    /// Whether to time each kernel of a GPU, in one more step.
    pub time_kernels: bool,
}

/// How fast a model trains.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSpeed {
    /// Seconds of the first step, which includes a GPU's kernel warm-up.
    pub first_step_seconds: f64,
    /// Median seconds of a later step.
    pub step_seconds: f64,
    /// Tokens per second of a later step.
    pub tokens_per_second: f64,
    /// Floating-point operations per token, forward and backward: see [`flops_per_token`].
    pub flops_per_token: f64,
    /// Floating-point operations per second of the fastest f32 product of 1024 × 1024 matrices.
    pub matrix_flops_per_second: f64,
    /// Peak memory of training, in bytes: the GPU's, or what the process added to its own on the
    /// CPU. `None` if the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// The kernels that a GPU ran in one step; empty on the CPU.
    pub kernels: Vec<KernelUse>,
    /// Seconds that all steps together waited for data, the first one included.
    pub data_wait_seconds: f64,
    /// Tokens per second that the data loader delivers without training.
    pub loader_tokens_per_second: f64,
}

impl TrainSpeed {
    /// Training speed as a share of the speed of large matrix products.
    pub fn flops_utilisation(&self) -> f64 {
        self.tokens_per_second * self.flops_per_token / self.matrix_flops_per_second
    }
}

impl OpenDevice {
    /// Trains a model from random weights on `corpus`, or on generated text, and measures.
    ///
    /// # Errors
    /// If the model is out of range, the corpus is too short for it, or the device fails.
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
                &[TextSource::Generated {
                    seed: [0; 32],
                    bytes,
                }],
                Tokeniser::Bytes,
            )?),
        };
        let theta = initial_weights(model, &[0; 32])?;
        let inner = InnerSpec {
            batch: load.batch,
            // One that is not timed, and one in which a GPU's kernels are watched.
            steps: load.steps + 1 + u32::from(self.is_gpu()),
            ..InnerSpec::default()
        };
        let mut learner = Learner::new(model.clone(), inner, corpus, self)?;
        learner.set_plan(&load.plan)?;
        let assignment = Assignment::newcomer([0; 32], [0; 32]);
        let (mut marks, mut watch, mut kernels) = (vec![0.0], None, Vec::new());
        let trained = learner.train(&theta, &assignment, 0, &mut |progress| {
            if let Some(watch) = watch.take() {
                kernels = LaunchWatch::finish(watch);
                return ControlFlow::Break(());
            }
            marks.push(progress.seconds);
            if self.is_gpu() && progress.steps > u64::from(load.steps) {
                watch = Some(LaunchWatch::begin(load.time_kernels));
            }
            ControlFlow::Continue(())
        })?;
        let steps: Vec<f64> = marks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (first_step_seconds, mut later) = (steps[0], steps[1..].to_vec());
        later.sort_by(f64::total_cmp);
        let step_seconds = later
            .get(later.len() / 2)
            .copied()
            .unwrap_or(first_step_seconds);
        let peak_memory_bytes = match self.memory_in_use() {
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
            kernels,
            data_wait_seconds: trained.data_seconds,
            loader_tokens_per_second: learner.loader_speed(&assignment, load.steps)?,
        })
    }

    /// Measures how fast a GPU compresses `delta` with the error feedback `error`: the best of
    /// `runs`. `None` on the CPU, where [`weal_kernels::compress`] is what to measure.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails, [`Error::Layout`] if a vector does not have the
    /// layout's length.
    pub fn compress_speed(
        &self,
        layout: &Layout,
        compression: &Compression,
        (error, delta): (&[f32], &[f32]),
        runs: usize,
    ) -> Result<Option<CompressSpeed>> {
        for (what, values) in [("error", error), ("delta", delta)] {
            let (expected, got) = (layout.parameters(), values.len());
            if got != expected {
                return Err(weal_kernels::Error::Length {
                    what,
                    expected,
                    got,
                }
                .into());
            }
        }
        if !self.is_gpu() {
            return Ok(None);
        }
        let measure = || compress_speed(self.raw(), compression, layout, (error, delta), runs);
        let measured = self
            .watched(|| catch_unwind(AssertUnwindSafe(measure)))
            .unwrap_or_else(|panic| Err(panic_message(&*panic)));
        measured.map(Some).map_err(|reason| Error::Device {
            device: self.name().to_owned(),
            action: "compressing",
            reason,
        })
    }
}

/// How fast a GPU compresses, next to how fast it copies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompressSpeed {
    /// Seconds from pseudo-gradient to body: the kernel, reading its records back, and assembling
    /// the body.
    pub compress_seconds: f64,
    /// Seconds to copy as many values on the device.
    pub copy_seconds: f64,
}

fn compress_speed(
    device: &Device,
    compression: &Compression,
    layout: &Layout,
    (error, delta): (&[f32], &[f32]),
    runs: usize,
) -> std::result::Result<CompressSpeed, String> {
    let upload = |values: &[f32]| -> Vec<Tensor<1>> {
        layout
            .ranges()
            .map(|part| Tensor::from_data(&values[part], device))
            .collect()
    };
    let (mut error, mut delta) = (upload(error), upload(delta));
    let synced = || device.sync().map_err(|error| error.to_string());
    let mut speed = CompressSpeed {
        compress_seconds: f64::INFINITY,
        copy_seconds: f64::INFINITY,
    };
    // The first run warms the kernels up.
    for _ in 0..=runs {
        synced()?;
        let start = Instant::now();
        let compressed = compress_tensors(layout, compression, error, delta.clone());
        let (_, left) = compressed.map_err(|error| error.to_string())?;
        synced()?;
        speed.compress_seconds = speed.compress_seconds.min(start.elapsed().as_secs_f64());
        // What is left is the next error feedback; its copy serves as the next pseudo-gradient.
        error = left;
        let start = Instant::now();
        delta = error
            .iter()
            .map(|tensor| tensor.clone().add_scalar(0.0))
            .collect();
        synced()?;
        speed.copy_seconds = speed.copy_seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(speed)
}

/// Floating-point operations per token, forward and backward: 6 for every weight that multiplies
/// it, and 12 · query width · context for the attention of each layer (Chowdhery et al., 2022,
/// appendix B), or · window if the layer sees no more.
///
/// # Errors
/// If the model is out of range.
pub fn flops_per_token(model: &ModelSpec) -> Result<f64> {
    let parameters = model.layout()?.parameters();
    // An untied embedding is looked up, not multiplied.
    let looked_up = if model.tied {
        0
    } else {
        model.vocabulary * model.width
    };
    let seen = |layer| model.window(layer).unwrap_or(usize::MAX).min(model.context);
    let keys: usize = (0..model.layers).map(seen).sum();
    let attention = 12 * model.query_width() * keys;
    Ok((6 * (parameters - looked_up) + attention) as f64)
}

fn matrix_speed(device: &Device) -> f64 {
    let matrix = || Tensor::<2>::random([MATRIX, MATRIX], Distribution::Default, device);
    let (left, right) = (matrix(), matrix());
    let product = || {
        let start = Instant::now();
        // Reading a value back waits for the product.
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

/// Resident memory of this process, in bytes.
fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// Peak resident memory of this process, in bytes.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
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
    use crate::features::{Features, LayerKind};

    #[test]
    fn operations_are_counted_as_for_palm() {
        let model = ModelSpec::preset("1b").unwrap();
        // 1.1 G weights, of which the embedding has 65.5 M; 22 layers, 2048 wide, 2048 tokens.
        let expected = 6.0 * (1_100_048_384.0 - 65_536_000.0) + 12.0 * 22.0 * 2048.0 * 2048.0;
        assert_eq!(flops_per_token(&model).unwrap(), expected);
        let windowed = ModelSpec {
            features: Features {
                window: Some(512),
                layer_kinds: (0..22)
                    .map(|layer| LayerKind {
                        windowed: layer % 2 == 0,
                        unrotated: false,
                    })
                    .collect(),
                ..Features::default()
            },
            ..model
        };
        let spared = 12.0 * 11.0 * 2048.0 * (2048.0 - 512.0);
        assert_eq!(flops_per_token(&windowed).unwrap(), expected - spared);
    }

    #[test]
    fn a_benchmark_times_training() {
        let model = ModelSpec {
            layers: 1,
            context: 32,
            ..ModelSpec::preset("nano").unwrap()
        };
        let load = TrainLoad {
            batch: 2,
            steps: 3,
            plan: ComputePlan::default(),
            time_kernels: false,
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
