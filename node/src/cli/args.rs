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
use crate::terminal::print_line;

/// The data folder of a command.
#[derive(Debug, Args)]
pub(super) struct FolderArgs {
    /// Data folder: one run, one key. By default `$XDG_DATA_HOME/weal` or `~/.local/share/weal`.
    #[arg(long, env = "WEAL_DIR", hide_env_values = true, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl FolderArgs {
    /// This folder.
    pub(super) fn of(dir: PathBuf) -> Self {
        Self { dir: Some(dir) }
    }

    /// The folder that is named, or the user's.
    ///
    /// # Errors
    /// When none is named and the user has no home.
    pub(super) fn folder(&self) -> Result<Folder> {
        let folder = self.dir.clone().or_else(default_folder);
        folder.map(Folder::new).ok_or_else(|| {
            Error::usage("there is no default data folder, because this user has no home folder")
                .with_hint("name a folder with --dir or WEAL_DIR, or set HOME")
        })
    }
}

/// The user's data folder. Relative paths in the variables are ignored, as the XDG specification
/// has it.
fn default_folder() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    // Without HOME, the system's list of users.
    let home = || {
        std::env::home_dir()
            .filter(|home| home.is_absolute())
            .map(|home| home.join(".local/share"))
    };
    data.filter(|data| data.is_absolute())
        .or_else(home)
        .map(|data| data.join("weal"))
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
    /// Print the result as JSON: one document a line, as docs/reference/json.md describes it.
    #[arg(long)]
    pub json: bool,
}

/// The version of the documents that commands print as JSON. It rises when a field is removed or
/// means something else; new fields do not change it. `docs/reference/json.md` describes them.
const JSON_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a, T> {
    version: u32,
    #[serde(flatten)]
    content: &'a T,
}

/// Prints a value as a line of JSON.
pub(super) fn print_json(content: &impl Serialize) -> Result<()> {
    let document = Document {
        version: JSON_VERSION,
        content,
    };
    let json =
        serde_json::to_string(&document).map_err(|error| Error::of(ErrorKind::Internal, error))?;
    print_line!("{json}")
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
