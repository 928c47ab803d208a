//! `weal export`: writes a model as safetensors or GGUF.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use weal_files::Access;
use weal_trainer::{Export, FloatFormat, GgufFormat, GgufSummary};

use super::args::FolderArgs;
use super::progress::ByteBar;
use crate::error::{Error, ErrorKind, Result};
use crate::loaded_model::LoadedModel;
use crate::terminal::print_line;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Output: a new folder in Hugging Face format, or a file that ends in .gguf, for llama.cpp.
    to: PathBuf,
    /// Number format of the weights: f32 (exact, the default), bf16 or f16 in a folder; f16 (the
    /// default), bf16, q8_0, q6_k, q5_k, q4_k or q4_0 in a GGUF file.
    #[arg(long = "type", value_name = "TYPE")]
    format: Option<String>,
    /// Replace the GGUF file if it is there already.
    #[arg(long)]
    overwrite: bool,
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
        self.check_goal(is_gguf)?;
        let loaded = LoadedModel::folder(&self.folder.folder()?, self.round)?;
        let failed = |error: weal_trainer::Error| Error::from(error).with_kind(ErrorKind::Data);
        let origin = loaded.provenance.as_ref();
        let labels = origin.map(|origin| match &output {
            Output::File(format) => origin.labels(format),
            Output::Folder(format) => origin.labels(format),
        });
        let export = Export::new(&loaded.model, &loaded.weights, &loaded.tokeniser)
            .map_err(failed)?
            .with_labels(labels.unwrap_or_default());
        let bar = ByteBar::new("writing");
        let written = match output {
            Output::File(format) => export
                .write_gguf(&self.to, &loaded.name, format, &mut bar.callback())
                .map(|summary| told(format, summary)),
            Output::Folder(format) => export
                .write_folder(&self.to, format, &mut bar.callback())
                .map(|()| String::new()),
        };
        bar.clear();
        let told = written.map_err(failed)?;
        print_line!("{} written to {}{told}", loaded.origin, self.to.display())?;
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses what cannot be written, or would take the place of something else.
    fn check_goal(&self, is_gguf: bool) -> Result<()> {
        let place = self.to.display();
        if !is_gguf {
            if let Some(ending) = file_ending(&self.to) {
                return Err(Error::usage(format!(
                    "{place}: a folder would get the name of a .{ending} file"
                ))
                .with_hint("give the name of a folder, or of a file that ends in .gguf"));
            }
            return Ok(weal_files::can_create_folder(&self.to)?);
        }
        let is_there = std::fs::metadata(&self.to).is_ok_and(|file| file.len() > 0);
        if is_there && !self.overwrite {
            return Err(
                Error::new(ErrorKind::Storage, format!("{place}: exists already"))
                    .with_hint("choose another name, or replace the file with --overwrite"),
            );
        }
        Ok(weal_files::can_write(&self.to, Access::Usual)?)
    }

    fn parse<T: std::str::FromStr<Err = String>>(&self, default: &str) -> Result<T> {
        let text = self.format.as_deref().unwrap_or(default);
        text.parse()
            .map_err(|accepted| Error::usage(format!("--type is {text}; {accepted}")))
    }
}

/// What a GGUF file came to, beside its name.
fn told(format: GgufFormat, summary: GgufSummary) -> String {
    let mut told = format!(", {format}, {:.2} bits per weight", summary.bits);
    if summary.fell_back > 0 {
        told += &format!(
            "; {} matrices have more bits than {format}, for their rows hold no whole number of \
             its blocks",
            summary.fell_back
        );
    }
    if let Some(caveat) = summary.caveat {
        told += &format!("\nnote: {caveat}");
    }
    told
}

/// The ending of a name that people expect to be a file.
fn file_ending(path: &Path) -> Option<&str> {
    const FILES: [&str; 8] = [
        "bin",
        "safetensors",
        "pt",
        "pth",
        "ckpt",
        "ggml",
        "onnx",
        "zip",
    ];
    let ending = path.extension()?.to_str()?;
    FILES
        .iter()
        .any(|known| ending.eq_ignore_ascii_case(known))
        .then_some(ending)
}

enum Output {
    Folder(FloatFormat),
    File(GgufFormat),
}
