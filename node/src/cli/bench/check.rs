//! `weal bench check`: whether a device computes what the CPU computes.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use weal_trainer::{Compared, CompressionCheck, DeviceCheck, ModelSpec, OpenDevice};

use super::plan::PlanArgs;
use crate::cli::args::{DeviceArgs, JsonArgs, PresetParser, print_json};
use crate::cli::open::open_device;
use crate::error::{Error, ErrorKind, Result};
use crate::terminal::print_line;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Model size.
    #[arg(long, default_value = "nano", value_parser = PresetParser)]
    preset: String,
    /// Sequences per step.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Steps to train.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    json: JsonArgs,
}

/// The result that `--json` prints.
#[derive(Serialize)]
struct CheckResult {
    preset: String,
    device: String,
    precision: String,
    passes: bool,
    /// The CPU's loss and the device's, step by step.
    losses: Vec<[f64; 2]>,
    gradient_norms: Vec<[f64; 2]>,
    heldout_loss: [f64; 2],
    largest_loss_difference: f64,
    tolerance: f64,
    weights_apart: f64,
    compression: &'static str,
}

impl CheckResult {
    fn new(preset: String, device: &OpenDevice, check: &DeviceCheck) -> Self {
        let pair = |compared: &Compared| [compared.cpu, compared.device];
        Self {
            preset,
            device: device.name().to_owned(),
            precision: check.precision.to_string(),
            passes: check.passes(),
            losses: check.losses.iter().map(pair).collect(),
            gradient_norms: check.gradient_norms.iter().map(pair).collect(),
            heldout_loss: pair(&check.heldout),
            largest_loss_difference: check.largest_loss_difference(),
            tolerance: check.tolerance(),
            weights_apart: check.weights_apart,
            compression: match check.compression {
                CompressionCheck::Same => "same",
                CompressionCheck::Differs => "differs",
                CompressionCheck::OnCpu => "cpu",
            },
        }
    }

    fn print(&self) -> Result<()> {
        print_line!("{} in {} on {}", self.preset, self.precision, self.device)?;
        for (step, [cpu, device]) in self.losses.iter().enumerate() {
            print_line!("step {step:<3} loss    CPU {cpu:.6}   device {device:.6}")?;
        }
        let [cpu, device] = self.heldout_loss;
        print_line!("held-out loss    CPU {cpu:.6}   device {device:.6}")?;
        print_line!(
            "largest difference of a loss: {:.1e} of it; at most {:.0e} is allowed",
            self.largest_loss_difference,
            self.tolerance
        )?;
        print_line!(
            "the weights are apart by {:.1e} of how far they moved",
            self.weights_apart
        )?;
        print_line!(
            "compression: {}",
            match self.compression {
                "same" => "the device's bytes are the CPU's",
                "differs" => "the device's bytes are NOT the CPU's",
                _ => "on the CPU",
            }
        )
    }
}

impl CheckArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let failed = |error: weal_trainer::Error| Error::from(error).with_kind(ErrorKind::Device);
        let model = ModelSpec::preset(&self.preset).map_err(|error| {
            Error::from(error)
                .with_kind(ErrorKind::Usage)
                .context("--preset")
        })?;
        let device = open_device(self.device.device)?;
        let plan = self
            .plan
            .plan(&device, &model, self.batch)
            .map_err(failed)?;
        let check = device.check(&model, (self.batch, self.steps), &plan);
        let result = CheckResult::new(self.preset, &device, &check.map_err(failed)?);
        if self.json.json {
            print_json(&result)?;
        } else {
            result.print()?;
        }
        Ok(if result.passes {
            ExitCode::SUCCESS
        } else {
            ErrorKind::Device.into()
        })
    }
}
