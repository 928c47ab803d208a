//! `weal generate`: lets a model write text.

use std::io::{IsTerminal, Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use weal_trainer::{GeneratedText, Sampling, TextGenerator};

use super::node::set_threads;
use super::{FolderArgs, open_model};
use crate::error::{Error, ErrorKind, Result};
use crate::settings::Device;

#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// How the text begins. Without it, it is read from standard input; at a terminal, you and the
    /// model take turns.
    prompt: Option<String>,
    /// A Hugging Face folder; by default the newest weights of the data folder write.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Tokens to write.
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// 0 always takes the likeliest token; more is bolder.
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,
    /// Draws only from the likeliest tokens that make up this share.
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    /// Draws only from so many of the likeliest tokens; 0 from all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// End the text before this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// The same seed gives the same text; by default a new one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// The device: auto, cpu, gpu or gpu:<number>.
    #[arg(long, env = "WEAL_DEVICE", default_value = "auto")]
    device: Device,
    #[command(flatten)]
    folder: FolderArgs,
}

impl GenerateArgs {
    pub fn run(self) -> Result<ExitCode> {
        set_threads(0)?;
        let (opened, device) = open_model(self.model.as_ref(), &self.folder, self.device)?;
        let failed = |error: weal_trainer::Error| Error::of(ErrorKind::Device, error);
        let generator =
            TextGenerator::new(opened.model, opened.tokeniser, &opened.weights, &device)
                .map_err(failed)?;
        let mut generator = generator.ending_at(opened.end_of_text);
        let mut sampling = Sampling {
            max_tokens: self.tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed.unwrap_or_else(rand::random),
            stop: self.stop,
        };
        match self.prompt {
            None if std::io::stdin().is_terminal() => {
                eprintln!("write how the text begins, then go on by turns; Ctrl-D ends it");
                take_turns(&mut generator, &mut sampling)?;
            }
            given => {
                let prompt = given.map_or_else(read_prompt, Ok)?;
                let _ = say(&prompt);
                let written = generator
                    .generate(&prompt, &sampling, &mut say)
                    .map_err(unusable)?;
                println!();
                eprintln!("{}", speed(&written));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A line of the reader's, then the model's, until the input ends. The model sees all that was
/// written before.
fn take_turns(generator: &mut TextGenerator, sampling: &mut Sampling) -> Result<()> {
    loop {
        eprint!("> ");
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).map_err(unreadable)? == 0 {
            eprintln!();
            return Ok(());
        }
        // The model goes on in the reader's line; an empty line begins a new one.
        let line = line
            .strip_suffix('\n')
            .filter(|line| !line.is_empty())
            .unwrap_or("\n");
        let written = generator
            .resume(line, sampling, &mut say)
            .map_err(unusable)?;
        println!();
        eprintln!("{}", speed(&written));
        sampling.seed = sampling.seed.wrapping_add(1);
    }
}

fn read_prompt() -> Result<String> {
    let mut prompt = String::new();
    std::io::stdin()
        .read_to_string(&mut prompt)
        .map_err(unreadable)?;
    Ok(if prompt.is_empty() {
        "\n".to_owned()
    } else {
        prompt
    })
}

/// Shows a piece of text. A reader that went away ends the text.
fn say(text: &str) -> ControlFlow<()> {
    let mut out = std::io::stdout().lock();
    let said = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if said.is_ok() {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

fn speed(written: &GeneratedText) -> String {
    let tokens = written.tokens.len();
    let after_first =
        tokens.saturating_sub(1) as f64 / (written.seconds - written.prompt_seconds).max(1e-9);
    format!(
        "{} tokens read in {:.2} s, {tokens} written at {after_first:.1} tokens/s",
        written.prompt_tokens, written.prompt_seconds
    )
}

fn unreadable(error: std::io::Error) -> Error {
    Error::usage(format!("standard input cannot be read: {error}"))
}

fn unusable(error: weal_trainer::Error) -> Error {
    Error::of(ErrorKind::Usage, error)
}
