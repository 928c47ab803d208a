//! `weal bench`: how fast this machine is.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use weal_kernels::{Compression, Layout};
use weal_trainer::{ModelSpec, OpenDevice};

use super::node::set_threads;
use crate::bench::{self, CodecSpeed};
use crate::error::{Error, Result};
use crate::model;
use crate::settings::Device;

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Compressing, checking and applying contributions, next to copying memory.
    Codec(CodecArgs),
}

#[derive(Debug, Args)]
struct CodecArgs {
    /// The model: nano, micro, tiny, small, medium or 1b. Needs 16 bytes of memory for each parameter.
    #[arg(long, default_value = "micro")]
    preset: String,
    /// Contributions that are applied together.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    contributions: u16,
    /// Values in a chunk.
    #[arg(long, default_value_t = Compression::default().chunk)]
    chunk: usize,
    /// Values kept of each chunk.
    #[arg(long, default_value_t = Compression::default().keep)]
    keep: usize,
    /// Threads; 0 for all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// A GPU to measure as well: auto, gpu, gpu:<number>.
    #[arg(long, env = "WEAL_DEVICE", default_value = "auto")]
    device: Device,
    /// Prints JSON, in bytes and values a second.
    #[arg(long)]
    json: bool,
}

impl BenchArgs {
    pub fn run(self) -> Result<ExitCode> {
        let What::Codec(args) = self.what;
        args.run()
    }
}

impl CodecArgs {
    fn run(self) -> Result<ExitCode> {
        set_threads(self.threads)?;
        let layout = self.layout()?;
        let compression = Compression { chunk: self.chunk, keep: self.keep, ..Compression::default() };
        let measured = bench::codec(&layout, &compression, self.contributions.into());
        let mut speed = measured.map_err(|error| Error::Usage(error.to_string()))?;
        let failed = |error: weal_trainer::Error| Error::Device(error.to_string());
        let device = OpenDevice::open(model::device_choice(self.device)).map_err(failed)?;
        speed.gpu = bench::gpu(&layout, &compression, &device).map_err(failed)?;
        if self.json {
            let json = serde_json::to_string_pretty(&speed).map_err(|error| Error::Internal(error.to_string()))?;
            println!("{json}");
        } else {
            show(&self.preset, &speed);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn layout(&self) -> Result<Layout> {
        let refused = |error: &dyn std::fmt::Display| Error::Usage(format!("--preset {}: {error}", self.preset));
        let model = ModelSpec::preset(&self.preset).map_err(|error| refused(&error))?;
        model.layout().map_err(|error| refused(&error))
    }
}

fn show(preset: &str, speed: &CodecSpeed) {
    let copy = speed.copy_bytes_per_second;
    let million = speed.parameters as f64 / 1e6;
    println!("{preset}: {million:.1} M parameters, {} contributions, {} threads", speed.contributions, speed.threads);
    println!(
        "on the wire      {:8.2} bits a value kept, {:.0} times fewer bytes than f32",
        speed.bits_per_value, speed.ratio_f32
    );
    println!("copying memory   {:8.2} GB/s", copy / 1e9);
    let line = |what: &str, bytes: f64, seconds: Option<f64>| {
        let time = seconds.map(|seconds| format!(", {:.2} ms", 1e3 * seconds)).unwrap_or_default();
        println!("{what:<16} {:8.2} GB/s, {:.2} of the copy{time}", bytes / 1e9, bytes / copy);
    };
    line("compressing", speed.compress_bytes_per_second, Some(speed.compress_seconds));
    line("the outer step", speed.outer_step_bytes_per_second, None);
    line("the state root", speed.root_bytes_per_second, None);
    println!("checking one     {:8.2} G values/s, on one thread", speed.check_values_per_second / 1e9);
    println!(
        "adding up        {:8.2} G values/s; with the outer step {:.2} ms",
        speed.aggregate_values_per_second / 1e9,
        1e3 * speed.apply_seconds
    );
    if let Some(gpu) = &speed.gpu {
        let (copy, compress) = (gpu.copy_bytes_per_second, gpu.compress_bytes_per_second);
        println!("{}", gpu.device);
        println!("copying          {:8.2} GB/s", copy / 1e9);
        let (ratio, milliseconds) = (compress / copy, 1e3 * gpu.compress_seconds);
        println!("compressing      {:8.2} GB/s, {ratio:.2} of the copy, {milliseconds:.2} ms", compress / 1e9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weal_trainer::PRESETS;

    #[test]
    fn the_help_names_every_preset() {
        let help = <BenchArgs as Args>::augment_args(clap::Command::new("bench"));
        let codec = help.find_subcommand("codec").unwrap();
        let preset = codec.get_arguments().find(|argument| argument.get_id() == "preset").unwrap();
        let text = preset.get_help().unwrap().to_string();
        assert!(PRESETS.iter().all(|name| text.contains(name)), "{text}");
    }
}
