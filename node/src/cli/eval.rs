//! `weal eval`: how well a model predicts text, and how it answers questions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use weal_trainer::{Evaluator, parse_questions};

use super::node::set_threads;
use super::{FolderArgs, open_model};
use crate::error::{Error, ErrorKind, Result};
use crate::settings::Device;

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// What to examine the model with. Files that end in .jsonl hold multiple-choice questions in
    /// the forms of ARC, HellaSwag or PIQA, or with the keys context, choices and answer; all
    /// others are text to predict.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A Hugging Face folder; by default the newest weights of the data folder are examined.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Print one line of JSON for each file.
    #[arg(long)]
    json: bool,
    /// The device: auto, cpu, gpu or gpu:<number>.
    #[arg(long, env = "WEAL_DEVICE", default_value = "auto")]
    device: Device,
    #[command(flatten)]
    folder: FolderArgs,
}

/// What was found out with one file.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Text {
        file: String,
        tokens: u64,
        bytes: u64,
        nats_per_token: f64,
        perplexity: f64,
        bits_per_byte: f64,
    },
    Choices {
        file: String,
        task: String,
        questions: usize,
        acc: f64,
        acc_stderr: f64,
        acc_norm: f64,
        acc_norm_stderr: f64,
    },
}

impl EvalArgs {
    pub fn run(self) -> Result<ExitCode> {
        set_threads(0)?;
        // A file that cannot be read is told before a model is.
        let texts = self
            .files
            .iter()
            .map(|file| read(file))
            .collect::<Result<Vec<_>>>()?;
        let (opened, device) = open_model(self.model.as_ref(), &self.folder, self.device)?;
        let failed = |error: weal_trainer::Error| Error::of(ErrorKind::Device, error);
        let mut evaluator = Evaluator::new(
            opened.model,
            opened.tokeniser,
            opened.end_of_text,
            &opened.weights,
            &device,
        )
        .map_err(failed)?;
        for (file, text) in self.files.iter().zip(&texts) {
            let found = examine(&mut evaluator, file, text)?;
            if self.json {
                let json = serde_json::to_string(&found)
                    .map_err(|error| Error::of(ErrorKind::Internal, error))?;
                println!("{json}");
            } else {
                println!("{found}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file)
        .map_err(|error| Error::data(format!("{}: cannot be read: {error}", file.display())))
}

fn examine(evaluator: &mut Evaluator, path: &Path, text: &[u8]) -> Result<Found> {
    let unusable = |error: weal_trainer::Error| match error {
        error @ weal_trainer::Error::Device { .. } => Error::of(ErrorKind::Device, error),
        error => Error::of(ErrorKind::Data, error),
    };
    let file = path.display().to_string();
    let bar = ProgressBar::new(0);
    let mut told = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let found = if path
        .extension()
        .is_some_and(|extension| extension == "jsonl")
    {
        let text = std::str::from_utf8(text)
            .map_err(|error| Error::data(format!("{file}: is not text: {error}")))?;
        let (form, questions) = parse_questions(path, text).map_err(unusable)?;
        let found = evaluator.choices(&questions, &mut told).map_err(unusable)?;
        Found::Choices {
            file,
            task: form.to_string(),
            questions: found.questions,
            acc: found.accuracy,
            acc_stderr: found.standard_error(found.accuracy),
            acc_norm: found.normalised_accuracy,
            acc_norm_stderr: found.standard_error(found.normalised_accuracy),
        }
    } else {
        let found = evaluator
            .text(text, &mut told)
            .map_err(|error| Error::data(format!("{file}: {error}")))?;
        Found::Text {
            file,
            tokens: found.tokens,
            bytes: found.bytes,
            nats_per_token: found.nats_per_token,
            perplexity: found.nats_per_token.exp(),
            bits_per_byte: found.nats_per_byte / std::f64::consts::LN_2,
        }
    };
    bar.finish_and_clear();
    Ok(found)
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text {
                file,
                tokens,
                bytes,
                nats_per_token,
                perplexity,
                bits_per_byte,
            } => write!(
                f,
                "{file}: {tokens} tokens, {bytes} bytes: {nats_per_token:.4} nats a token, perplexity {perplexity:.3}, {bits_per_byte:.4} bits a byte"
            ),
            Self::Choices {
                file,
                task,
                questions,
                acc,
                acc_stderr,
                acc_norm,
                acc_norm_stderr,
            } => write!(
                f,
                "{file}: {questions} questions ({task}): acc {acc:.4} ± {acc_stderr:.4}, acc_norm {acc_norm:.4} ± {acc_norm_stderr:.4}"
            ),
        }
    }
}
