//! Checks a device against the CPU: the same training, the same losses, the same compression.

use std::ops::ControlFlow;
use std::sync::Arc;

use weal_kernels::Compression;

use crate::compute_plan::{ComputePlan, Precision};
use crate::corpus::{Corpus, TextSource};
use crate::device::OpenDevice;
use crate::error::Result;
use crate::initial::initial_weights;
use crate::inner::InnerSpec;
use crate::learner::Learner;
use crate::sampling::Assignment;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// Held-out windows to measure.
const HELDOUT: usize = 16;
/// Contributions to compare. The second and later ones carry an error feedback.
const CONTRIBUTIONS: usize = 3;

/// A number that the CPU found, and what the device found instead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// The CPU's, in f32.
    pub cpu: f64,
    /// The device's.
    pub device: f64,
}

impl Compared {
    /// The difference, as a share of the CPU's number; infinite if either is not finite.
    pub fn difference(&self) -> f64 {
        let difference = ((self.device - self.cpu) / self.cpu).abs();
        if difference.is_finite() {
            difference
        } else {
            f64::INFINITY
        }
    }
}

/// How contributions that a device compressed compare with the CPU's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompressionCheck {
    /// All bytes are the same, and so are all bits of the error feedback.
    Same,
    /// They differ.
    Differs,
    /// The device cannot compress; a node would do it on the CPU.
    OnCpu,
}

/// What [`OpenDevice::check`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceCheck {
    /// The precision of the device's matrix products.
    pub precision: Precision,
    /// Loss of each step before its update, in nats per token.
    pub losses: Vec<Compared>,
    /// Norm of the gradient of each step.
    pub gradient_norms: Vec<Compared>,
    /// Held-out loss of the weights that the CPU learnt, in nats per token.
    pub heldout: Compared,
    /// Distance between the weights that both learnt, as a share of how far the CPU's moved.
    pub weights_apart: f64,
    /// The same pseudo-gradient, compressed on both.
    pub compression: CompressionCheck,
}

impl DeviceCheck {
    /// The largest difference of a loss, as a share of it.
    pub fn largest_loss_difference(&self) -> f64 {
        let all = self.losses.iter().chain([&self.heldout]);
        all.map(Compared::difference).fold(0.0, f64::max)
    }

    /// The most that a loss may differ, as a share of it. GPUs multiply f32 in TF32, which keeps 10
    /// bits; f16 keeps as many, but rounds what is kept between products, too; bf16 keeps 7.
    pub fn tolerance(&self) -> f64 {
        match self.precision {
            Precision::F32 => 2e-3,
            Precision::F16 => 5e-3,
            Precision::Bf16 => 2e-2,
        }
    }

    /// Whether the device trains as the CPU does, up to rounding, and compresses to the same bytes.
    pub fn passes(&self) -> bool {
        self.largest_loss_difference() <= self.tolerance()
            && self.compression != CompressionCheck::Differs
    }
}

impl OpenDevice {
    /// Trains `model` from random weights on generated text for `steps` steps of `batch` sequences,
    /// on this device and on the CPU, and compares.
    ///
    /// # Errors
    /// If the model is out of range or the device fails.
    pub fn check(
        &self,
        model: &ModelSpec,
        (batch, steps): (u32, u32),
        plan: &ComputePlan,
    ) -> Result<DeviceCheck> {
        let inner = InnerSpec {
            batch,
            steps,
            ..InnerSpec::default()
        };
        let text = TextSource::Generated {
            seed: [0; 32],
            bytes: (model.context * 1000).max(100_000),
        };
        let corpus = Arc::new(Corpus::new(&[text], Tokeniser::Bytes)?);
        let start = initial_weights(model, &[0; 32])?;
        let learner = |device: &OpenDevice, plan: &ComputePlan| {
            let mut learner =
                Learner::new(model.clone(), inner.clone(), Arc::clone(&corpus), device)?;
            learner.set_plan(plan)?;
            Ok::<_, crate::error::Error>(learner)
        };
        let mut cpu = learner(&OpenDevice::cpu(), &ComputePlan::default())?;
        let mut device = learner(self, plan)?;
        let [on_cpu, on_device] = [train(&mut cpu, &start)?, train(&mut device, &start)?];
        let learnt = cpu.weights()?;
        let weights_apart = distance(&device.weights()?, &learnt) / distance(&learnt, &start);
        let heldout = |learner: &mut Learner| {
            let found = learner.heldout_loss(&learnt, HELDOUT)?;
            Ok::<_, crate::error::Error>(found.nats_per_token)
        };
        let heldout = Compared {
            cpu: heldout(&mut cpu)?,
            device: heldout(&mut device)?,
        };
        // Both hold `learnt` now.
        let compression = compare_compression(&mut cpu, &mut device, &start)?;
        let pairs = |of: fn(&(f64, f64)) -> f64| {
            let pairs = on_cpu.iter().zip(&on_device);
            pairs
                .map(|(cpu, device)| Compared {
                    cpu: of(cpu),
                    device: of(device),
                })
                .collect()
        };
        Ok(DeviceCheck {
            precision: plan.precision,
            losses: pairs(|step| step.0),
            gradient_norms: pairs(|step| step.1),
            heldout,
            weights_apart,
            compression,
        })
    }
}

/// Trains for one round. Returns each step's loss and norm of the gradient.
fn train(learner: &mut Learner, start: &[f32]) -> Result<Vec<(f64, f64)>> {
    let mut steps = Vec::new();
    let assignment = Assignment::newcomer([0; 32], [0; 32]);
    learner.train(start, &assignment, 0, &mut |progress| {
        steps.push((progress.loss, progress.gradient_norm));
        ControlFlow::Continue(())
    })?;
    Ok(steps)
}

fn compare_compression(
    cpu: &mut Learner,
    device: &mut Learner,
    start: &[f32],
) -> Result<CompressionCheck> {
    let compression = Compression::default();
    for _ in 0..CONTRIBUTIONS {
        let [expected, found] = [
            cpu.compress(start, &compression)?,
            device.compress(start, &compression)?,
        ];
        if !device.compresses_on_device() {
            return Ok(CompressionCheck::OnCpu);
        }
        let [expected_left, left] = [cpu.error_feedback()?, device.error_feedback()?];
        let same_bits = expected_left
            .iter()
            .map(|value| value.to_bits())
            .eq(left.iter().map(|value| value.to_bits()));
        if expected != found || !same_bits {
            return Ok(CompressionCheck::Differs);
        }
    }
    Ok(CompressionCheck::Same)
}

/// The L2 distance.
fn distance(left: &[f32], right: &[f32]) -> f64 {
    let squares = left
        .iter()
        .zip(right)
        .map(|(left, right)| f64::from(left - right).powi(2));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> ModelSpec {
        ModelSpec {
            layers: 1,
            context: 32,
            ..ModelSpec::preset("nano").unwrap()
        }
    }

    #[test]
    fn the_cpu_agrees_with_itself() {
        let plan = ComputePlan {
            micro_batch: Some(1),
            ..ComputePlan::default()
        };
        let check = OpenDevice::cpu().check(&small(), (2, 3), &plan).unwrap();
        assert_eq!((check.losses.len(), check.gradient_norms.len()), (3, 3));
        assert!(check.largest_loss_difference() < 1e-5, "{check:?}");
        assert!(check.weights_apart < 0.1, "{check:?}");
        // The CPU is no device to compress on.
        assert_eq!(check.compression, CompressionCheck::OnCpu);
        assert!(check.passes());
    }

    #[test]
    fn a_check_fails_on_other_losses_and_on_other_bytes() {
        let pair = |device| Compared { cpu: 2.0, device };
        let check = |device, compression| DeviceCheck {
            precision: Precision::F32,
            losses: vec![pair(2.0)],
            gradient_norms: vec![pair(2.0)],
            heldout: pair(device),
            weights_apart: 0.0,
            compression,
        };
        assert!(check(2.001, CompressionCheck::Same).passes());
        for wrong in [2.1, f64::NAN] {
            assert!(!check(wrong, CompressionCheck::Same).passes(), "{wrong}");
        }
        assert!(!check(2.0, CompressionCheck::Differs).passes());
    }
}
