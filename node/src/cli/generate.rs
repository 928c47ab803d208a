//! `weal generate`: generates text with a model.

use std::io::{IsTerminal, Read, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use weal_trainer::{GeneratedText, Sampling, TextGenerator};

use super::open::ModelArgs;
use super::runtime::set_threads;
use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// Start of the text. Without it, the prompt is read from standard input; on a terminal, you
    /// and the model take turns.
    prompt: Option<String>,
    /// Most tokens to generate.
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Sampling temperature: 0 always takes the most likely token, higher values vary more.
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,
    /// Sample only from the most likely tokens that together have this probability.
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    /// Sample only from this many of the most likely tokens; 0 means all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Stop before this text; repeat the flag for more.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Seed of the sampling; the same seed gives the same text. By default a random one.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    model: ModelArgs,
}

impl GenerateArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        set_threads(0)?;
        let (loaded, device) = self.model.open()?;
        let failed = |error: weal_trainer::Error| Error::from(error).with_kind(ErrorKind::Device);
        let generator =
            TextGenerator::new(loaded.model, loaded.tokeniser, &loaded.weights, &device)
                .map_err(failed)?;
        let mut generator = generator.ending_at(loaded.end_of_text);
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
                eprintln!(
                    "type the start of the text, then take turns with the model; Ctrl-D ends"
                );
                take_turns(&mut generator, &mut sampling)?;
            }
            given => {
                let prompt = given.map_or_else(read_prompt, Ok)?;
                let _ = print(&prompt);
                let written = generator
                    .generate(&prompt, &sampling, &mut print)
                    .map_err(unusable)?;
                println!();
                eprintln!("{}", speed(&written));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a line, lets the model continue it, and so on until the input ends. The model sees all
/// the text so far.
fn take_turns(generator: &mut TextGenerator, sampling: &mut Sampling) -> Result<()> {
    loop {
        eprint!("> ");
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).map_err(unreadable)? == 0 {
            eprintln!();
            return Ok(());
        }
        // The model continues the line it was given; an empty line starts a new one.
        let line = line
            .strip_suffix('\n')
            .filter(|line| !line.is_empty())
            .unwrap_or("\n");
        let written = generator
            .resume(line, sampling, &mut print)
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

/// Prints a piece of text. A closed pipe ends the text.
fn print(text: &str) -> ControlFlow<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if written.is_ok() {
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
        "{} prompt tokens in {:.2} s, {tokens} tokens generated at {after_first:.1} tokens/s",
        written.prompt_tokens, written.prompt_seconds
    )
}

fn unreadable(error: std::io::Error) -> Error {
    Error::usage("cannot read standard input").caused_by(error)
}

fn unusable(error: weal_trainer::Error) -> Error {
    Error::from(error).with_kind(ErrorKind::Usage)
}
