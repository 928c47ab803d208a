//! `weal export`: writes a model as others read it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use weal_trainer::{Export, FloatFormat, GgufFormat};

use super::FolderArgs;
use super::progress::Bar;
use crate::error::{Error, ErrorKind, Result};
use crate::loaded_model::LoadedModel;

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where to: a new folder in Hugging Face's form, or a file that ends in .gguf, for llama.cpp.
    to: PathBuf,
    /// How weights are kept. In a folder f32 (every bit), bf16 or f16 (half the size); in a GGUF
    /// file f16, q8_0 or q4_0.
    #[arg(long = "type", value_name = "TYPE")]
    format: Option<String>,
    /// The weights at the start of this round; by default the newest that are here.
    #[arg(long)]
    round: Option<u64>,
    #[command(flatten)]
    folder: FolderArgs,
}

impl ExportArgs {
    pub fn run(self) -> Result<ExitCode> {
        let is_gguf = self
            .to
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        // A wrong flag is told before anything is read.
        let wanted = if is_gguf {
            Wanted::File(self.parse("f16")?)
        } else {
            Wanted::Folder(self.parse("f32")?)
        };
        let opened = LoadedModel::folder(&self.folder.folder(), self.round)?;
        let failed = |error: weal_trainer::Error| Error::of(ErrorKind::Data, error);
        let export = Export::new(
            &opened.model,
            &opened.weights,
            &opened.tokeniser,
            opened.end_of_text,
        )
        .map_err(failed)?;
        let bar = Bar::new("writing");
        let written = match wanted {
            Wanted::File(format) => {
                export.write_gguf(&self.to, &opened.name, format, &mut bar.told())
            }
            Wanted::Folder(format) => export.write_folder(&self.to, format, &mut bar.told()),
        };
        bar.end();
        written.map_err(failed)?;
        println!("{} written to {}", opened.origin, self.to.display());
        Ok(ExitCode::SUCCESS)
    }

    fn parse<T: std::str::FromStr<Err = String>>(&self, default: &str) -> Result<T> {
        let text = self.format.as_deref().unwrap_or(default);
        text.parse()
            .map_err(|accepted| Error::usage(format!("--type is {text}; {accepted}")))
    }
}

enum Wanted {
    Folder(FloatFormat),
    File(GgufFormat),
}
