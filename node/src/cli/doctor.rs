//! `weal doctor`: what stands between this machine and training.

use std::process::ExitCode;

use clap::Args;
use weal_trainer::format_bytes;

use super::FolderArgs;
use super::node::{NodeArgs, set_threads};
use crate::doctor::{Questions, Report, State, examine};
use crate::error::{Error, ErrorKind, Result};
use crate::settings::{Bytes, Settings};

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Sequences of a step, for the presets; a folder's run has its own.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Tokens of a sequence, for the presets; by default each has its own.
    #[arg(long)]
    context: Option<usize>,
    /// Supposes a GPU with that much memory and with bf16, instead of the device there is.
    #[arg(long, value_name = "BYTES")]
    suppose: Option<Bytes>,
    /// Do not train for a moment to see how fast it is.
    #[arg(long)]
    no_measure: bool,
    /// Prints JSON, in bytes.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

impl DoctorArgs {
    pub fn run(self) -> Result<ExitCode> {
        let folder = self.folder.folder();
        let settings = self.node.over(Settings::read(&folder)?);
        set_threads(settings.compute.threads)?;
        let report = examine(&Questions {
            folder,
            settings,
            batch: self.batch.into(),
            context: self.context,
            suppose: self.suppose.map(|Bytes(bytes)| bytes),
            measure: !self.no_measure && self.suppose.is_none(),
        })?;
        if self.json {
            let json = serde_json::to_string_pretty(&report)
                .map_err(|error| Error::of(ErrorKind::Internal, error))?;
            println!("{json}");
        } else {
            show(&report);
        }
        Ok(ExitCode::from(report.code()))
    }
}

fn show(report: &Report) {
    for check in &report.checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Warning => "note",
            State::Wrong => "WRONG",
        };
        println!("{state:<6}{:<12}{}", check.what, check.found);
        if let Some(remedy) = &check.remedy {
            println!("{:<18}{remedy}", "");
        }
    }
    let is_gpu = report.models.iter().any(|model| model.device_bytes > 0);
    let pair = |device: u64, host: u64| match is_gpu {
        true => format!("{} + {}", format_bytes(device), format_bytes(host)),
        false => format_bytes(host),
    };
    let legend = if is_gpu {
        ", on the GPU + in the machine"
    } else {
        ""
    };
    println!("\nmemory for training{legend}:");
    println!(
        "{:<9} {:>10} {:>8} {:>20} {:>20} {:>20}",
        "model", "parameters", "context", "nothing spared", "all spared", "as chosen"
    );
    for model in &report.models {
        let fastest = pair(model.fastest_device_bytes, model.fastest_host_bytes);
        let least = pair(model.least_device_bytes, model.least_host_bytes);
        let here = pair(model.device_bytes, model.host_bytes);
        let million = format!("{:.1} M", model.parameters as f64 / 1e6);
        let fits = if model.fits { "fits" } else { "NO ROOM" };
        let speed = model.tokens_per_second.map_or(String::new(), |speed| {
            format!(", about {speed:.0} tokens/s")
        });
        println!(
            "{:<9} {million:>10} {:>8} {fastest:>20} {least:>20} {here:>20}  {fits}: {}{speed}",
            model.name, model.context, model.plan
        );
    }
    println!(
        "\n{}",
        if report.can_train {
            "this machine can train"
        } else {
            "this machine cannot train yet"
        }
    );
}
