//! `weal doctor`: checks whether this machine can train, and which models fit it.

use std::process::ExitCode;

use clap::Args;
use weal_trainer::format_bytes;

use super::args::{FolderArgs, JsonArgs, print_json};
use super::node::NodeArgs;
use super::runtime::set_threads;
use crate::doctor::{Examination, ModelFit, Report, State, Supposed};
use crate::error::Result;
use crate::settings::{Bytes, Settings};
use crate::terminal::print_line;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Sequences per step, for the presets. The run of a data folder has its own.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Tokens per sequence, for the presets. By default each preset has its own.
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Plan for a GPU with this much memory and with f16, instead of the device of this machine.
    #[arg(long, value_name = "BYTES")]
    suppose: Option<Bytes>,
    /// Plan for a machine with this much memory, instead of what is free in this one.
    #[arg(long, value_name = "BYTES")]
    suppose_machine: Option<Bytes>,
    /// Skip the short training run that measures the speed.
    #[arg(long)]
    no_measure: bool,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

impl DoctorArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let folder = self.folder.folder()?;
        let settings = self.node.override_settings(Settings::read(&folder)?);
        set_threads(settings.compute.threads)?;
        let examination = Examination {
            folder,
            settings,
            batch: self.batch.into(),
            context: self.context,
            supposed: Supposed {
                gpu: self.suppose.map(|Bytes(bytes)| bytes),
                machine: self.suppose_machine.map(|Bytes(bytes)| bytes),
            },
            measure_speed: !self.no_measure && self.suppose.is_none(),
        };
        let report = examination.run()?;
        if self.json.json {
            print_json(&report)?;
        } else {
            print(&report)?;
        }
        Ok(ExitCode::from(report.code()))
    }
}

fn print(report: &Report) -> Result<()> {
    for check in &report.checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Warning => "note",
            State::Wrong => "FAILED",
        };
        print_line!("{state:<7}{:<12}{}", check.what, check.found)?;
        if let Some(remedy) = &check.remedy {
            print_line!("{:<19}hint: {remedy}", "")?;
        }
    }
    print_models(&report.models)?;
    print_line!(
        "\n{}",
        if report.can_train {
            "this machine can train"
        } else {
            "this machine cannot train until the failed checks pass"
        }
    )
}

fn print_models(models: &[ModelFit]) -> Result<()> {
    let is_gpu = models.iter().any(|model| model.device_bytes > 0);
    let pair = |device: u64, host: u64| match is_gpu {
        true => format!("{} + {}", format_bytes(device), format_bytes(host)),
        false => format_bytes(host),
    };
    let legend = if is_gpu { " (GPU + host)" } else { "" };
    print_line!("\nmemory for training{legend}:")?;
    print_line!(
        "{:<9} {:>10} {:>8} {:>20} {:>20} {:>20}",
        "model",
        "parameters",
        "context",
        "fastest plan",
        "smallest plan",
        "chosen plan"
    )?;
    for model in models {
        let fastest = pair(model.fastest_device_bytes, model.fastest_host_bytes);
        let least = pair(model.least_device_bytes, model.least_host_bytes);
        let here = pair(model.device_bytes, model.host_bytes);
        let million = format!("{:.1} M", model.parameters as f64 / 1e6);
        let fits = if model.fits { "fits" } else { "TOO LARGE" };
        let speed = model.tokens_per_second.map_or(String::new(), |speed| {
            format!(", about {speed:.0} tokens/s")
        });
        print_line!(
            "{:<9} {million:>10} {:>8} {fastest:>20} {least:>20} {here:>20}  {fits}: {}{speed}",
            model.name,
            model.context,
            model.plan
        )?;
    }
    Ok(())
}
