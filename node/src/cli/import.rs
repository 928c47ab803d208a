//! `weal import`: a new run that goes on from a model that was trained elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::FolderArgs;
use super::new::{absolute, write};
use crate::error::Result;
use crate::new_run::RunFile;

/// Peak learning rate for weights that have learnt already; new ones bear twenty times as much.
const LEARNING_RATE: f64 = 1e-4;

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A Hugging Face folder: config.json, tokenizer.json, and safetensors of a Llama, Mistral or
    /// Qwen3.
    model: PathBuf,
    /// What people will call the run.
    #[arg(long, default_value = "a commonweal")]
    name: String,
    /// Text files and folders to train on, or a folder that `weal data prepare` made; without them,
    /// the built-in generator's text.
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// A tokenizer.json, where the model's folder has none.
    #[arg(long, value_name = "PATH")]
    tokeniser: Option<PathBuf>,
    /// Tokens of a window, where fewer are to be trained on than the model could see.
    #[arg(long)]
    context: Option<u32>,
    #[command(flatten)]
    folder: FolderArgs,
}

impl ImportArgs {
    pub fn run(self) -> Result<ExitCode> {
        let mut file = RunFile {
            name: self.name,
            ..RunFile::default()
        };
        file.model.checkpoint = Some(absolute(&self.model)?);
        file.model.context = self.context;
        file.data.files = self.data.iter().map(absolute).collect::<Result<_>>()?;
        file.tokeniser.file = self.tokeniser.as_ref().map(absolute).transpose()?;
        file.inner.learning_rate = LEARNING_RATE;
        write(&self.folder.folder(), &file)
    }
}
