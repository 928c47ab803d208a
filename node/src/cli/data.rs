//! `weal data`: makes data ready for training, and checks it.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use weal_trainer::{
    DownloadClient, FileKind, Prepare, PrepareProgress, PrepareSummary, PreparedFolder,
    PreparedPart, Tokeniser,
};

use super::progress::Bar;
use super::{block_on, stop_signal};
use crate::error::{Error, ErrorKind, Result};

/// Files that were left out and are named on the screen.
const LEFT_OUT_SHOWN: usize = 5;

#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Reads text from files, folders and addresses, and writes it as shards of tokens.
    Prepare(Box<PrepareArgs>),
    /// Reads every shard of a prepared folder, and compares it with its hash.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct PrepareArgs {
    /// Where the text is: files, folders, patterns in quotes ("data/*.jsonl.gz"), addresses
    /// (https://…), Hugging Face data sets (hf://datasets/OWNER/NAME[@REVISION][/PATH]). Read are
    /// .txt, .md, .jsonl, .ndjson, .json and .parquet, each also as .gz or .zst.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// The new folder that gets the tokens.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// A tokenizer.json; without it, one token a byte.
    #[arg(long, value_name = "PATH")]
    tokeniser: Option<PathBuf>,
    /// The token that ends each document, by its name; by default the one that the tokeniser's own
    /// settings name.
    #[arg(long, value_name = "TOKEN")]
    end_of_text: Option<String>,
    /// Share of the text that is held out to measure with, such as 2% or 0.02. A text's hash
    /// decides.
    #[arg(long, default_value = "2%", value_parser = share, value_name = "SHARE")]
    heldout: u32,
    /// What all files hold, whatever they are called: text, jsonl or parquet.
    #[arg(long, value_parser = kind)]
    format: Option<FileKind>,
    /// Field of JSON lines, or column of Parquet, that holds the text; a.b is b within a.
    #[arg(long, default_value = "text", value_name = "NAME")]
    text_field: String,
    /// What stands between the documents of a text file, such as "<|endoftext|>" or "\n\n"; by
    /// default a file is one document.
    #[arg(long, value_name = "TEXT")]
    separator: Option<String>,
    /// Tokens of a shard.
    #[arg(long, default_value_t = 1 << 24, value_parser = clap::value_parser!(u64).range(1_024..=1 << 30))]
    shard_tokens: u64,
    /// Threads; 0 for all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Where fetched files lie until all is done; by default beside the folder.
    #[arg(long, value_name = "FOLDER")]
    downloads: Option<PathBuf>,
    /// Keep fetched files afterwards.
    #[arg(long)]
    keep_downloads: bool,
    /// End at the first record that cannot be used, in place of naming it in bad-records.txt.
    #[arg(long)]
    strict: bool,
    /// Print a summary as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The prepared folder.
    folder: PathBuf,
}

/// What programs are told of data that is prepared.
#[derive(Serialize)]
struct Summary<'a> {
    folder: String,
    documents: u64,
    empty: u64,
    bad: u64,
    left_out: &'a [String],
    text_bytes: u64,
    training_tokens: u64,
    heldout_tokens: u64,
    shards: usize,
    seconds: f64,
    text_bytes_per_second: f64,
}

impl DataArgs {
    pub fn run(self) -> Result<ExitCode> {
        match self.what {
            What::Prepare(args) => args.run(),
            What::Check(args) => args.run(),
        }
    }
}

impl PrepareArgs {
    fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        let prepare = self.prepare()?;
        let out = self.out.clone();
        let summary = block_on(async move {
            let stop = stop_signal()?;
            let work = tokio::task::spawn_blocking(move || {
                let shown = Shown::new();
                let summary = prepare.run(&out, &mut |progress| {
                    shown.tell(progress);
                    if *stop.borrow() {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                });
                shown.end();
                summary
            });
            let summary = work
                .await
                .map_err(|error| Error::of(ErrorKind::Internal, error))?;
            summary.map_err(|error| Error::of(ErrorKind::Data, error))
        })?;
        let seconds = start.elapsed().as_secs_f64();
        if self.json {
            self.print_json(&summary, seconds)
        } else {
            Ok(self.print(&summary, seconds))
        }
    }

    fn prepare(&self) -> Result<Prepare> {
        let tokeniser = match &self.tokeniser {
            None => Tokeniser::Bytes,
            Some(path) => {
                Tokeniser::from_file(path).map_err(|error| Error::of(ErrorKind::Data, error))?
            }
        };
        let end_of_text = match (&self.end_of_text, &self.tokeniser) {
            (Some(name), _) => Some(tokeniser.token_of(name).ok_or_else(|| {
                Error::usage(format!(
                    "--end-of-text {name}: the tokeniser has no such token"
                ))
            })?),
            (None, Some(path)) => tokeniser.end_of_text(path),
            (None, None) => None,
        };
        if self.tokeniser.is_some() && end_of_text.is_none() {
            eprintln!(
                "the tokeniser names no token that ends a text, so documents follow one another without; see --end-of-text"
            );
        }
        let usual = Prepare::new(self.sources.clone(), tokeniser);
        Ok(Prepare {
            kind: self.format,
            end_of_text,
            heldout_ppm: self.heldout,
            text_field: self.text_field.clone(),
            separator: self.separator.as_deref().map(unescaped).unwrap_or_default(),
            shard_tokens: self.shard_tokens,
            threads: if self.threads == 0 {
                usual.threads
            } else {
                self.threads
            },
            client: DownloadClient::from_environment(),
            downloads: self.downloads.clone(),
            keep_downloads: self.keep_downloads,
            strict: self.strict,
            ..usual
        })
    }

    fn print(&self, summary: &PrepareSummary, seconds: f64) -> ExitCode {
        let index = &summary.index;
        let sum = |count: fn(&weal_trainer::PreparedSource) -> u64| {
            index.sources.iter().map(count).sum::<u64>()
        };
        let text_bytes = sum(|source| source.text_bytes);
        println!(
            "{} documents, {} of text from {} files, in {seconds:.1} s ({}/s)",
            HumanCount(sum(|source| source.documents)),
            HumanBytes(text_bytes),
            index.sources.len(),
            HumanBytes((text_bytes as f64 / seconds) as u64),
        );
        for (name, part) in [("training", &index.training), ("held out", &index.heldout)] {
            println!(
                "{name}: {} tokens in {} shards",
                HumanCount(part.tokens),
                part.shards.len()
            );
        }
        for (count, what) in [
            (sum(|source| source.empty), "documents without text"),
            (sum(|source| source.bad), "records that could not be used"),
        ] {
            if count > 0 {
                println!("left out: {} {what}", HumanCount(count));
            }
        }
        for bad in &summary.bad {
            println!("  {bad}");
        }
        if sum(|source| source.bad) > summary.bad.len() as u64 {
            println!(
                "  all of them are named in {}",
                self.out.join("bad-records.txt").display()
            );
        }
        if !summary.skipped.is_empty() {
            let names: Vec<_> = summary
                .skipped
                .iter()
                .take(LEFT_OUT_SHOWN)
                .map(String::as_str)
                .collect();
            let more = if summary.skipped.len() > LEFT_OUT_SHOWN {
                ", …"
            } else {
                ""
            };
            println!(
                "left out: {} files of other kinds: {}{more}",
                summary.skipped.len(),
                names.join(", ")
            );
        }
        println!("train on it with: weal new --data {}", self.out.display());
        ExitCode::SUCCESS
    }

    fn print_json(&self, summary: &PrepareSummary, seconds: f64) -> Result<ExitCode> {
        let index = &summary.index;
        let text_bytes = index.sources.iter().map(|source| source.text_bytes).sum();
        let summary = Summary {
            folder: self.out.display().to_string(),
            documents: index.sources.iter().map(|source| source.documents).sum(),
            empty: index.sources.iter().map(|source| source.empty).sum(),
            bad: index.sources.iter().map(|source| source.bad).sum(),
            left_out: &summary.skipped,
            text_bytes,
            training_tokens: index.training.tokens,
            heldout_tokens: index.heldout.tokens,
            shards: index.training.shards.len() + index.heldout.shards.len(),
            seconds,
            text_bytes_per_second: text_bytes as f64 / seconds,
        };
        println!(
            "{}",
            serde_json::to_string(&summary)
                .map_err(|error| Error::of(ErrorKind::Internal, error))?
        );
        Ok(ExitCode::SUCCESS)
    }
}

impl CheckArgs {
    fn run(self) -> Result<ExitCode> {
        let folder = PreparedFolder::open(&self.folder)
            .map_err(|error| Error::of(ErrorKind::Data, error))?;
        let bar = Bar::new("checking");
        let checked = folder.check(&mut bar.told());
        bar.end();
        checked.map_err(|error| Error::of(ErrorKind::Data, error))?;
        let shards = |part: &PreparedPart| {
            format!(
                "{} tokens in {} shards",
                HumanCount(part.tokens),
                part.shards.len()
            )
        };
        println!(
            "training: {}\nheld out: {}",
            shards(&folder.index.training),
            shards(&folder.index.heldout)
        );
        println!("every shard is what its name says");
        Ok(ExitCode::SUCCESS)
    }
}

/// A bar of bytes read, with what came of them; it is not there where nobody looks.
struct Shown(ProgressBar);

impl Shown {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template(
            "{bar:30} {bytes} of {total_bytes} ({binary_bytes_per_sec}, {eta}) {msg}",
        );
        Self(style.map_or(bar.clone(), |style| bar.with_style(style)))
    }

    fn tell(&self, progress: &PrepareProgress) {
        self.0
            .set_length(progress.total_bytes.max(progress.read_bytes));
        self.0.set_position(progress.read_bytes);
        let mut message = format!(
            "{} documents, {} tokens",
            HumanCount(progress.documents),
            HumanCount(progress.tokens)
        );
        if progress.fetched_bytes > 0 {
            message.push_str(&format!(", {} fetched", HumanBytes(progress.fetched_bytes)));
        }
        if progress.bad > 0 {
            message.push_str(&format!(", {} bad", HumanCount(progress.bad)));
        }
        self.0.set_message(message);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// A share as parts per million: 2% or 0.02.
fn share(text: &str) -> Result<u32, String> {
    let accepted = || format!("{text} is no share; accepted: 0% to 50%, or 0 to 0.5");
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    let share = share.map_err(|_| accepted())?;
    if (0.0..=0.5).contains(&share) {
        Ok((share * 1e6).round() as u32)
    } else {
        Err(accepted())
    }
}

fn kind(text: &str) -> Result<FileKind, String> {
    let known = FileKind::NAMES.iter().find(|(name, _)| *name == text);
    known
        .map(|(_, kind)| *kind)
        .ok_or_else(|| "accepted: text, jsonl, parquet".to_owned())
}

/// What a person means by `\n`, `\t`, `\0` and `\\`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('0') => plain.push('\0'),
            Some('\\') | None => plain.push('\\'),
            Some(other) => plain.extend(['\\', other]),
        }
    }
    plain.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_or_a_fraction() {
        assert_eq!(
            (share("2%"), share("0.02"), share("0"), share("50 %")),
            (Ok(20_000), Ok(20_000), Ok(0), Ok(500_000))
        );
        for wrong in ["51%", "-1", "two", "", "NaN"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_separator_may_be_written_with_escapes() {
        assert_eq!(unescaped("<|endoftext|>"), b"<|endoftext|>");
        assert_eq!(unescaped(r"\n\n"), b"\n\n");
        assert_eq!(unescaped(r"a\\n\x\"), br"a\n\x\");
    }
}
