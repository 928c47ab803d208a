//! `weal eval`: measures how well a model predicts text and answers questions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use weal_trainer::{Evaluator, parse_questions};

use super::args::{JsonArgs, print_json_line};
use super::open::ModelArgs;
use super::runtime::set_threads;
use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Files to evaluate on. A .jsonl file holds multiple-choice questions in the form of ARC,
    /// HellaSwag or PIQA, or with the keys context, choices and answer. Any other file is text to
    /// predict.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// The result for one file.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Evaluation {
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
    pub(super) fn run(self) -> Result<ExitCode> {
        set_threads(0)?;
        // A file that cannot be read is reported before the model, which may be large, is read.
        let texts = self
            .files
            .iter()
            .map(|file| read(file))
            .collect::<Result<Vec<_>>>()?;
        let (loaded, device) = self.model.open()?;
        let failed = |error: weal_trainer::Error| Error::from(error).with_kind(ErrorKind::Device);
        let mut evaluator = Evaluator::new(
            loaded.model,
            loaded.tokeniser,
            loaded.end_of_text,
            &loaded.weights,
            &device,
        )
        .map_err(failed)?;
        for (file, text) in self.files.iter().zip(&texts) {
            let evaluation = evaluate(&mut evaluator, file, text)?;
            if self.json.json {
                print_json_line(&evaluation)?;
            } else {
                println!("{evaluation}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| {
        Error::data(format!("{}: cannot be read", file.display())).caused_by(error)
    })
}

fn evaluate(evaluator: &mut Evaluator, path: &Path, text: &[u8]) -> Result<Evaluation> {
    let unusable = |error: weal_trainer::Error| match error {
        error @ weal_trainer::Error::Device { .. } => {
            Error::from(error).with_kind(ErrorKind::Device)
        }
        error => Error::from(error).with_kind(ErrorKind::Data),
    };
    let file = path.display().to_string();
    let bar = ProgressBar::new(0);
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let found = if path
        .extension()
        .is_some_and(|extension| extension == "jsonl")
    {
        let text = std::str::from_utf8(text)
            .map_err(|error| Error::data(format!("{file}: not text in UTF-8")).caused_by(error))?;
        let (form, questions) = parse_questions(path, text).map_err(unusable)?;
        let found = evaluator
            .choices(&questions, &mut progress)
            .map_err(unusable)?;
        Evaluation::Choices {
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
            .text(text, &mut progress)
            .map_err(|error| unusable(error).context(format!("{file}: cannot be evaluated")))?;
        Evaluation::Text {
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

impl std::fmt::Display for Evaluation {
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
                "{file}: {tokens} tokens, {bytes} bytes: {nats_per_token:.4} nats per token, \
                 perplexity {perplexity:.3}, {bits_per_byte:.4} bits per byte"
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
                "{file}: {questions} questions ({task}): acc {acc:.4} ± {acc_stderr:.4}, \
                 acc_norm {acc_norm:.4} ± {acc_norm_stderr:.4}"
            ),
        }
    }
}
