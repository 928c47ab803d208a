//! Flags that several commands share.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind as ClapErrorKind;
use clap::{Arg, Args, Command};
use serde::Serialize;
use weal_trainer::PRESETS;

use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::new_run::{RunFile, flag_help};
use crate::settings::Device;

/// The data folder of a command.
#[derive(Debug, Args)]
pub(super) struct FolderArgs {
    /// Data folder: one run, one key. By default `$XDG_DATA_HOME/weal` or `~/.local/share/weal`.
    #[arg(long, env = "WEAL_DIR", hide_env_values = true, value_name = "FOLDER",
        default_value_os_t = default_folder(), hide_default_value = true)]
    dir: PathBuf,
}

impl FolderArgs {
    pub(super) fn folder(&self) -> Folder {
        Folder::new(&self.dir)
    }
}

fn default_folder() -> PathBuf {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = || {
        from("HOME")
            .or_else(|| from("USERPROFILE"))
            .map(|home| home.join(".local/share"))
    };
    from("XDG_DATA_HOME")
        .or_else(home)
        .unwrap_or_default()
        .join("weal")
}

/// The device of a command that computes.
#[derive(Debug, Args)]
pub(super) struct DeviceArgs {
    /// Device to use: auto, cpu, gpu or gpu:<number>, as `weal doctor` numbers them.
    #[arg(
        long,
        env = "WEAL_DEVICE",
        hide_env_values = true,
        default_value = "auto"
    )]
    pub device: Device,
}

/// How a command prints its result.
#[derive(Debug, Args)]
pub(super) struct JsonArgs {
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints a value as JSON, indented for people who read it.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|error| Error::of(ErrorKind::Internal, error))?;
    println!("{json}");
    Ok(())
}

/// Prints a value as one line of JSON.
pub(super) fn print_json_line(value: &impl Serialize) -> Result<()> {
    let json =
        serde_json::to_string(value).map_err(|error| Error::of(ErrorKind::Internal, error))?;
    println!("{json}");
    Ok(())
}

/// What a new run is called and trained on.
#[derive(Debug, Args)]
pub(super) struct NewRunArgs {
    #[arg(long, help = flag_help("name"), default_value = "a commonweal")]
    name: String,
    #[command(flatten)]
    data: TrainingDataArgs,
    #[arg(long, help = flag_help("tokeniser.file"), value_name = "PATH")]
    tokeniser: Option<PathBuf>,
    #[command(flatten)]
    pub folder: FolderArgs,
}

impl NewRunArgs {
    /// A run file with these values and the defaults.
    pub(super) fn run_file(&self) -> Result<RunFile> {
        let mut file = RunFile {
            name: self.name.clone(),
            ..RunFile::default()
        };
        file.data.files = self.data.data.iter().map(absolute).collect::<Result<_>>()?;
        file.tokeniser.file = self.tokeniser.as_ref().map(absolute).transpose()?;
        Ok(file)
    }
}

/// The training data of a run.
#[derive(Debug, Args)]
pub(super) struct TrainingDataArgs {
    #[arg(long, help = flag_help("data.files"), value_name = "PATH")]
    pub data: Vec<PathBuf>,
}

/// An absolute path, because the run file is read from another folder than the command line.
pub(super) fn absolute(path: &PathBuf) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::data(format!("{}: not a path", path.display())).caused_by(error))
}

/// Takes the name of a preset. Help and completions list the presets; an unknown name is refused
/// where the model is made, as it is in `run.toml`.
#[derive(Debug, Clone)]
pub(super) struct PresetParser;

impl TypedValueParser for PresetParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        value
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| clap::Error::new(ClapErrorKind::InvalidUtf8).with_cmd(command))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(PRESETS.into_iter().map(PossibleValue::new)))
    }
}
