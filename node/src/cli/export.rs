//! `weal export`: writes a model as safetensors or GGUF.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use weal_trainer::{Export, FloatFormat, GgufFormat};

use super::args::FolderArgs;
use super::progress::ByteBar;
use crate::error::{Error, ErrorKind, Result};
use crate::loaded_model::LoadedModel;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Output: a new folder in Hugging Face format, or a file that ends in .gguf, for llama.cpp.
    to: PathBuf,
    /// Number format of the weights: f32 (exact, the default), bf16 or f16 in a folder; f16 (the
    /// default), q8_0 or q4_0 in a GGUF file.
    #[arg(long = "type", value_name = "TYPE")]
    format: Option<String>,
    /// Round whose starting weights to export. By default the newest round in the folder.
    #[arg(long)]
    round: Option<u64>,
    #[command(flatten)]
    folder: FolderArgs,
}

impl ExportArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let is_gguf = self
            .to
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        // A wrong flag is reported before anything is read.
        let output = if is_gguf {
            Output::File(self.parse("f16")?)
        } else {
            Output::Folder(self.parse("f32")?)
        };
        let loaded = LoadedModel::folder(&self.folder.folder(), self.round)?;
        let failed = |error: weal_trainer::Error| Error::from(error).with_kind(ErrorKind::Data);
        let export = Export::new(
            &loaded.model,
            &loaded.weights,
            &loaded.tokeniser,
            loaded.end_of_text,
        )
        .map_err(failed)?;
        let bar = ByteBar::new("writing");
        let written = match output {
            Output::File(format) => {
                export.write_gguf(&self.to, &loaded.name, format, &mut bar.callback())
            }
            Output::Folder(format) => export.write_folder(&self.to, format, &mut bar.callback()),
        };
        bar.clear();
        written.map_err(failed)?;
        println!("{} written to {}", loaded.origin, self.to.display());
        Ok(ExitCode::SUCCESS)
    }

    fn parse<T: std::str::FromStr<Err = String>>(&self, default: &str) -> Result<T> {
        let text = self.format.as_deref().unwrap_or(default);
        text.parse()
            .map_err(|accepted| Error::usage(format!("--type is {text}; {accepted}")))
    }
}

enum Output {
    Folder(FloatFormat),
    File(GgufFormat),
}
