//! `weal import`: a new run that continues training an existing model.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::args::{NewRunArgs, absolute};
use super::new::write;
use crate::error::Result;
use crate::new_run;

/// Peak learning rate for weights that are trained already; new ones stand twenty times as much.
pub(super) const LEARNING_RATE: f64 = 1e-4;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Hugging Face folder of a Llama, Mistral, Qwen, SmolLM, Gemma, OLMo or Phi-3: config.json,
    /// safetensors, and tokenizer.json unless --tokeniser names one.
    model: PathBuf,
    #[arg(long, help = new_run::flag_help("model.context"), value_name = "TOKENS")]
    context: Option<u32>,
    #[command(flatten)]
    run: NewRunArgs,
}

impl ImportArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let mut file = self.run.run_file()?;
        file.model.checkpoint = Some(absolute(&self.model)?);
        file.model.context = self.context;
        file.inner.learning_rate = LEARNING_RATE;
        write(&self.run.folder.folder()?, &file)
    }
}
