//! `weal generate`: generates text with a model.

use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use weal_trainer::{GeneratedText, Sampling, TextGenerator, Tokeniser};

use super::chat::{Chat, unusable};
use super::open::{ModelArgs, Purpose};
use super::runtime::set_threads;
use crate::error::{Error, ErrorKind, Result};
use crate::notes::warn;
use crate::terminal::{print_line, say, say_piece, write_piece};

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// Start of the text, or a message for a model that chats. Without it, the prompt is read from
    /// standard input; on a terminal, you and the model take turns.
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
    /// Answer the prompt as a message, by the model's chat template. This is the default for a
    /// model that has one.
    #[arg(long, conflicts_with = "raw")]
    chat: bool,
    /// Continue the prompt as plain text, even if the model has a chat template.
    #[arg(long)]
    raw: bool,
    /// Tell the model how to answer, before the first message; implies --chat.
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
}

impl GenerateArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let mut sampling = Sampling {
            max_tokens: self.tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed.unwrap_or_else(rand::random),
            stop: self.stop.clone(),
        };
        // A wrong flag is reported before anything is read.
        sampling.validate().map_err(unusable)?;
        set_threads(0)?;
        let (loaded, device) = self.model.open(Purpose::Text)?;
        let failed = |error: weal_trainer::Error| Error::from(error).with_kind(ErrorKind::Device);
        let tokeniser = Arc::new(loaded.tokeniser);
        let mut chat = self.conversation(&tokeniser)?;
        let mut generator =
            TextGenerator::new(loaded.model, tokeniser.clone(), &loaded.weights, &device)
                .map_err(failed)?;
        let is_chat = chat.is_some();
        let mut turn = |text: &str, sampling: &Sampling| {
            let mut printer = Printer::default();
            let mut print = |piece: &str| printer.print(piece);
            let written = match &mut chat {
                Some(chat) => chat.answer(&mut generator, text, sampling, &mut print)?,
                None => generator
                    .resume(text, sampling, &mut print)
                    .map_err(unusable)?,
            };
            printer.end()?;
            tell(&written);
            Ok(())
        };
        match self.prompt {
            None if std::io::stdin().is_terminal() => take_turns(&mut turn, &mut sampling),
            given => {
                let prompt = given.map_or_else(read_prompt, Ok)?;
                if !is_chat {
                    write_piece(&prompt)?;
                }
                turn(&prompt, &sampling)
            }
        }?;
        Ok(ExitCode::SUCCESS)
    }

    /// The conversation to have, unless text is to be continued.
    fn conversation<'a>(&self, tokeniser: &'a Tokeniser) -> Result<Option<Chat<'a>>> {
        if self.raw {
            return Ok(None);
        }
        let chat = Chat::new(tokeniser, self.system.as_deref())?;
        match &chat {
            None if self.chat || self.system.is_some() => Err(Error::usage(
                "the model has no chat template, so it cannot chat",
            )
            .with_hint("leave out --chat and --system to continue plain text")),
            Some(_) if !self.chat => {
                say!("chatting by the model's template; --raw continues plain text instead");
                Ok(chat)
            }
            _ => Ok(chat),
        }
    }
}

/// Reads a line, lets the model continue or answer it, and so on until the input ends. The model
/// sees all the text so far.
fn take_turns(
    turn: &mut dyn FnMut(&str, &Sampling) -> Result<()>,
    sampling: &mut Sampling,
) -> Result<()> {
    say!("type a message or the start of the text, then take turns with the model; Ctrl-D ends");
    loop {
        say_piece("> ");
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).map_err(unreadable)? == 0 {
            say!("");
            return Ok(());
        }
        // The model continues the line it was given; an empty line starts a new one.
        let line = line
            .strip_suffix('\n')
            .filter(|line| !line.is_empty())
            .unwrap_or("\n");
        turn(line, sampling)?;
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

/// Prints the text as it comes. What cannot be printed ends the text.
#[derive(Default)]
struct Printer {
    failed: Option<Error>,
}

impl Printer {
    fn print(&mut self, text: &str) -> ControlFlow<()> {
        match write_piece(text) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Ends the line.
    fn end(self) -> Result<()> {
        self.failed.map_or_else(|| print_line!(""), Err)
    }
}

/// Tells what the model did not see, and how fast it wrote.
fn tell(written: &GeneratedText) {
    if written.unseen_tokens > 0 {
        warn(&format!(
            "the prompt is longer than the model's context: of its {} tokens, the model did not see \
             the first {}",
            written.prompt_tokens, written.unseen_tokens
        ));
    }
    let tokens = written.tokens.len();
    let after_first =
        tokens.saturating_sub(1) as f64 / (written.seconds - written.prompt_seconds).max(1e-9);
    say!(
        "{} prompt tokens in {:.2} s, {tokens} tokens generated at {after_first:.1} tokens/s",
        written.prompt_tokens,
        written.prompt_seconds
    );
}

fn unreadable(error: std::io::Error) -> Error {
    Error::usage("cannot read standard input").caused_by(error)
}
