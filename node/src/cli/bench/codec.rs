//! `weal bench codec`: the speed of compressing, checking and applying contributions.

use std::process::ExitCode;

use clap::Args;
use weal_kernels::{Compression, Layout};
use weal_trainer::ModelSpec;

use crate::bench::{self, CodecSpeed};
use crate::cli::args::{DeviceArgs, JsonArgs, PresetParser, print_json};
use crate::cli::open::open_device;
use crate::cli::runtime::set_threads;
use crate::error::{Error, ErrorKind, Result};
use crate::terminal::print_line;

#[derive(Debug, Args)]
pub(super) struct CodecArgs {
    /// Model size. The benchmark needs 16 bytes of memory per parameter.
    #[arg(long, default_value = "micro", value_parser = PresetParser)]
    preset: String,
    /// Number of contributions to apply together.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    contributions: u16,
    /// Values per chunk.
    #[arg(long, default_value_t = Compression::default().chunk)]
    chunk: usize,
    /// Values kept per chunk.
    #[arg(long, default_value_t = Compression::default().keep)]
    keep: usize,
    /// Number of CPU threads; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    json: JsonArgs,
}

impl CodecArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        set_threads(self.threads)?;
        let layout = self.layout()?;
        let compression = Compression {
            chunk: self.chunk,
            keep: self.keep,
            ..Compression::default()
        };
        let mut speed = bench::codec(&layout, &compression, self.contributions.into())
            .map_err(|error| Error::of(ErrorKind::Usage, error))?;
        let device = open_device(self.device.device)?;
        speed.gpu = bench::gpu(&layout, &compression, &device)
            .map_err(|error| Error::from(error).with_kind(ErrorKind::Device))?;
        if self.json.json {
            print_json(&speed)?;
        } else {
            print(&self.preset, &speed)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn layout(&self) -> Result<Layout> {
        ModelSpec::preset(&self.preset)
            .and_then(|model| model.layout())
            .map_err(|error| {
                Error::from(error)
                    .with_kind(ErrorKind::Usage)
                    .context("--preset")
            })
    }
}

fn print(preset: &str, speed: &CodecSpeed) -> Result<()> {
    let copy = speed.copy_bytes_per_second;
    let million = speed.parameters as f64 / 1e6;
    print_line!(
        "{preset}: {million:.1} M parameters, {} contributions, {} threads",
        speed.contributions,
        speed.threads
    )?;
    print_line!(
        "on the wire      {:8.2} bits per value kept, {:.0} times fewer bytes than f32",
        speed.bits_per_value,
        speed.ratio_f32
    )?;
    print_line!("memory copy      {:8.2} GB/s", copy / 1e9)?;
    let line = |what: &str, bytes: f64, seconds: Option<f64>| {
        let time = seconds
            .map(|seconds| format!(", {:.2} ms", 1e3 * seconds))
            .unwrap_or_default();
        print_line!(
            "{what:<16} {:8.2} GB/s, {:.2} of the copy{time}",
            bytes / 1e9,
            bytes / copy
        )
    };
    line(
        "compress",
        speed.compress_bytes_per_second,
        Some(speed.compress_seconds),
    )?;
    line("outer step", speed.outer_step_bytes_per_second, None)?;
    line("state root", speed.root_bytes_per_second, None)?;
    print_line!(
        "check            {:8.2} G values/s, on one thread",
        speed.check_values_per_second / 1e9
    )?;
    print_line!(
        "aggregate        {:8.2} G values/s; with the outer step {:.2} ms",
        speed.aggregate_values_per_second / 1e9,
        1e3 * speed.apply_seconds
    )?;
    if let Some(gpu) = &speed.gpu {
        let (copy, compress) = (gpu.copy_bytes_per_second, gpu.compress_bytes_per_second);
        print_line!("{}", gpu.device)?;
        print_line!("memory copy      {:8.2} GB/s", copy / 1e9)?;
        let (ratio, milliseconds) = (compress / copy, 1e3 * gpu.compress_seconds);
        print_line!(
            "compress         {:8.2} GB/s, {ratio:.2} of the copy, {milliseconds:.2} ms",
            compress / 1e9
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use weal_trainer::PRESETS;

    use crate::cli::bench::BenchArgs;

    #[test]
    fn the_help_names_every_preset() {
        let help = <BenchArgs as clap::Args>::augment_args(clap::Command::new("bench"));
        for command in ["codec", "train"] {
            let command = help.find_subcommand(command).unwrap();
            let preset = command
                .get_arguments()
                .find(|argument| argument.get_id() == "preset")
                .unwrap();
            let text = command.clone().render_help().to_string();
            assert!(
                preset
                    .get_possible_values()
                    .iter()
                    .map(|value| value.get_name())
                    .eq(PRESETS),
                "{text}"
            );
            assert!(PRESETS.iter().all(|name| text.contains(name)), "{text}");
        }
    }
}
