//! `weal data`: prepares training data, and checks it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use weal_trainer::{
    DownloadClient, FileKind, LeftOut, Prepare, PrepareProgress, PrepareSummary, PreparedFolder,
    PreparedPart, Tokeniser,
};

use super::args::{JsonArgs, print_json};
use super::progress::ByteBar;
use super::runtime::check_threads;
use crate::error::{Error, ErrorKind, Result};
use crate::notes::{tell_lost, tell_notes};
use crate::terminal::{print_line, say};

/// Number of skipped files that are named on the screen.
const LEFT_OUT_SHOWN: usize = 5;
/// Number of notes on files that are shown.
const NOTES_SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// Read text from files, folders and URLs, and write it as shards of tokens.
    Prepare(Box<PrepareArgs>),
    /// Read every shard of a prepared folder and compare it with its hash.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct PrepareArgs {
    /// Text to read: files, folders, patterns in quotes ("data/*.jsonl.gz"), URLs (https://…) and
    /// Hugging Face data sets (hf://datasets/OWNER/NAME[@REVISION][/PATH]). Accepts .txt, .md,
    /// .jsonl, .ndjson and .json, each optionally .gz or .zst, and .parquet.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// Folder to create for the tokens.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Path of a tokenizer.json; without one, each byte is a token.
    #[arg(long, value_name = "PATH")]
    tokeniser: Option<PathBuf>,
    /// Token that ends each document, by name. By default the one that the tokeniser's
    /// configuration names.
    #[arg(long, value_name = "TOKEN")]
    end_of_text: Option<String>,
    /// Share of the text to hold out for measuring the loss, such as 2% or 0.02. What a document
    /// says decides whether all of it is held out.
    #[arg(long, default_value = "2%", value_parser = share, value_name = "SHARE")]
    heldout: u32,
    /// Format of all files, whatever their names: text, jsonl or parquet.
    #[arg(long, value_parser = kind)]
    format: Option<FileKind>,
    /// JSON field or Parquet column that holds the text; a.b means field b inside a. A JSON field
    /// may hold a list of messages, which the tokeniser's chat template turns into text.
    #[arg(long, default_value = "text", value_name = "NAME")]
    text_field: String,
    /// What is learnt of records that hold messages: all tokens, or the assistant's answers only.
    #[arg(long, default_value = "all", value_parser = ["all", "answers"], value_name = "PART")]
    loss_on: String,
    /// Separator between the documents of a text file, such as "<|endoftext|>" or "\n\n". By
    /// default a file is one document.
    #[arg(long, value_name = "TEXT")]
    separator: Option<String>,
    /// Tokens per shard.
    #[arg(long, value_name = "TOKENS", default_value_t = 1 << 24,
        value_parser = clap::value_parser!(u64).range(1_024..=1 << 30))]
    shard_tokens: u64,
    /// Number of threads; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Folder for downloaded files. By default a folder beside --out, or in it if --out exists.
    #[arg(long, value_name = "FOLDER")]
    downloads: Option<PathBuf>,
    /// Keep downloaded files afterwards.
    #[arg(long)]
    keep_downloads: bool,
    /// Stop at the first record that cannot be used, instead of listing it in bad-records.txt.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    json: JsonArgs,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Prepared folder to check.
    folder: PathBuf,
}

/// A file that was left out of a folder or pattern.
#[derive(Serialize)]
struct LeftOutFile<'a> {
    file: &'a str,
    why: &'static str,
}

/// The summary that `--json` prints.
#[derive(Serialize)]
struct Summary<'a> {
    folder: String,
    documents: u64,
    empty: u64,
    bad: u64,
    repaired: u64,
    left_out: Vec<LeftOutFile<'a>>,
    notes: &'a [String],
    text_bytes: u64,
    training_tokens: u64,
    heldout_tokens: u64,
    /// How the held-out part was chosen, if not by the share asked for.
    heldout_note: Option<&'a str>,
    shards: usize,
    seconds: f64,
    text_bytes_per_second: f64,
}

impl DataArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.command {
            DataCommand::Prepare(args) => args.run(),
            DataCommand::Check(args) => args.run(),
        }
    }
}

impl PrepareArgs {
    fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        check_threads(self.threads)?;
        let prepare = self.prepare()?;
        let bar = PrepareBar::new();
        let summary = prepare.run(&self.out, &mut |progress| {
            bar.update(progress);
            ControlFlow::Continue(())
        });
        bar.clear();
        let summary = summary.map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
        let seconds = start.elapsed().as_secs_f64();
        tell_lost(summary.lost);
        if self.json.json {
            print_json(&self.summary(&summary, seconds))?;
        } else {
            self.print(&summary, seconds)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn prepare(&self) -> Result<Prepare> {
        let mut tokeniser = match &self.tokeniser {
            None => Tokeniser::Bytes,
            Some(path) => Tokeniser::from_file(path)
                .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?,
        };
        if let Some(name) = &self.end_of_text {
            let end = tokeniser.token_of(name).ok_or_else(|| {
                Error::usage(format!(
                    "--end-of-text {name}: not a token of this tokeniser"
                ))
            })?;
            let special = tokeniser.special().clone().ending_with(end);
            tokeniser = tokeniser.with_special(special);
        }
        tell_notes(&tokeniser);
        if self.tokeniser.is_some() && tokeniser.special().eos.is_empty() {
            say!(
                "warning: the tokeniser names no end-of-text token, so nothing separates the \
                 documents; name one with --end-of-text"
            );
        }
        let defaults = Prepare::new(self.sources.clone(), tokeniser);
        Ok(Prepare {
            kind: self.format,
            heldout_ppm: self.heldout,
            text_field: self.text_field.clone(),
            loss_on_answers: self.loss_on == "answers",
            separator: self.separator.as_deref().map(unescape).unwrap_or_default(),
            shard_tokens: self.shard_tokens,
            threads: if self.threads == 0 {
                defaults.threads
            } else {
                self.threads
            },
            client: DownloadClient::from_environment(),
            downloads: self.downloads.clone(),
            keep_downloads: self.keep_downloads,
            strict: self.strict,
            ..defaults
        })
    }

    fn print(&self, summary: &PrepareSummary, seconds: f64) -> Result<()> {
        let index = &summary.index;
        let sum = |count: fn(&weal_trainer::PreparedSource) -> u64| {
            index.sources.iter().map(count).sum::<u64>()
        };
        let text_bytes = sum(|source| source.text_bytes);
        print_line!(
            "{} documents, {} of text from {} files in {seconds:.1} s ({}/s)",
            HumanCount(sum(|source| source.documents)),
            HumanBytes(text_bytes),
            index.sources.len(),
            HumanBytes((text_bytes as f64 / seconds) as u64),
        )?;
        for (name, part) in [("training", &index.training), ("held out", &index.heldout)] {
            print_line!(
                "{name}: {} tokens in {} shards",
                HumanCount(part.tokens),
                part.shards.len()
            )?;
        }
        for (count, what) in [
            (sum(|source| source.empty), "documents without text"),
            (sum(|source| source.bad), "records that cannot be used"),
        ] {
            if count > 0 {
                print_line!("skipped: {} {what}", HumanCount(count))?;
            }
        }
        for bad in &summary.bad {
            print_line!("  {bad}")?;
        }
        if sum(|source| source.bad) > summary.bad.len() as u64 {
            print_line!(
                "  for all of them, see {}",
                self.out.join("bad-records.txt").display()
            )?;
        }
        if summary.repaired > 0 {
            print_line!(
                "repaired: {} documents with half a surrogate pair, now U+FFFD",
                HumanCount(summary.repaired)
            )?;
        }
        print_left_out(&summary.left_out)?;
        for note in summary.notes.iter().take(NOTES_SHOWN) {
            print_line!("note: {note}")?;
        }
        if summary.notes.len() > NOTES_SHOWN {
            print_line!(
                "note: {} more like these",
                summary.notes.len() - NOTES_SHOWN
            )?;
        }
        if let Some(note) = &summary.heldout_note {
            print_line!("{note}")?;
        }
        print_line!("train on it with: weal new --data {}", self.out.display())
    }

    fn summary<'a>(&self, summary: &'a PrepareSummary, seconds: f64) -> Summary<'a> {
        let index = &summary.index;
        let text_bytes = index.sources.iter().map(|source| source.text_bytes).sum();
        let left_out = summary.left_out.iter().map(|(file, why)| LeftOutFile {
            file,
            why: why.name(),
        });
        Summary {
            folder: self.out.display().to_string(),
            documents: index.sources.iter().map(|source| source.documents).sum(),
            empty: index.sources.iter().map(|source| source.empty).sum(),
            bad: index.sources.iter().map(|source| source.bad).sum(),
            repaired: summary.repaired,
            left_out: left_out.collect(),
            notes: &summary.notes,
            text_bytes,
            training_tokens: index.training.tokens,
            heldout_tokens: index.heldout.tokens,
            heldout_note: summary.heldout_note.as_deref(),
            shards: index.training.shards.len() + index.heldout.shards.len(),
            seconds,
            text_bytes_per_second: text_bytes as f64 / seconds,
        }
    }
}

/// Names some of the files that were left out, by reason.
fn print_left_out(left_out: &[(String, LeftOut)]) -> Result<()> {
    let mut reasons: BTreeMap<LeftOut, Vec<&str>> = BTreeMap::new();
    for (name, why) in left_out {
        reasons.entry(*why).or_default().push(name);
    }
    for (why, names) in reasons {
        let shown = &names[..names.len().min(LEFT_OUT_SHOWN)];
        let more = if names.len() > LEFT_OUT_SHOWN {
            ", …"
        } else {
            ""
        };
        print_line!(
            "skipped: {} {}: {}{more}",
            names.len(),
            why.name(),
            shown.join(", ")
        )?;
    }
    Ok(())
}

impl CheckArgs {
    fn run(self) -> Result<ExitCode> {
        let folder = PreparedFolder::open(&self.folder)
            .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
        let bar = ByteBar::new("checking");
        let checked = folder.check(&mut bar.callback());
        bar.clear();
        checked.map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
        let shards = |part: &PreparedPart| {
            format!(
                "{} tokens in {} shards",
                HumanCount(part.tokens),
                part.shards.len()
            )
        };
        print_line!(
            "training: {}\nheld out: {}",
            shards(&folder.index.training),
            shards(&folder.index.heldout)
        )?;
        print_line!("every shard matches its hash")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A progress bar of bytes read, with the documents and tokens they gave.
struct PrepareBar(ProgressBar);

impl PrepareBar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template(
            "{bar:30} {bytes} of {total_bytes} ({binary_bytes_per_sec}, {eta}) {msg}",
        );
        Self(style.map_or(bar.clone(), |style| bar.with_style(style)))
    }

    fn update(&self, progress: &PrepareProgress) {
        self.0
            .set_length(progress.total_bytes.max(progress.read_bytes));
        self.0.set_position(progress.read_bytes);
        let mut message = format!(
            "{} documents, {} tokens",
            HumanCount(progress.documents),
            HumanCount(progress.tokens)
        );
        if progress.fetched_bytes > 0 {
            message.push_str(&format!(
                ", {} downloaded",
                HumanBytes(progress.fetched_bytes)
            ));
        }
        if progress.bad > 0 {
            message.push_str(&format!(", {} bad", HumanCount(progress.bad)));
        }
        self.0.set_message(message);
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// Parses a share such as 2% or 0.02, in parts per million.
fn share(text: &str) -> Result<u32, String> {
    let accepted = || "accepted: 0.0001% to 50%, or 0.000001 to 0.5".to_owned();
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    let share = share.map_err(|_| accepted())?;
    if (1e-6..=0.5).contains(&share) {
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

/// Replaces the escapes `\n`, `\t`, `\0` and `\\`.
fn unescape(text: &str) -> Vec<u8> {
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
            (share("2%"), share("0.02"), share("1e-6"), share("50 %")),
            (Ok(20_000), Ok(20_000), Ok(1), Ok(500_000))
        );
        for wrong in ["51%", "-1", "two", "", "NaN", "0", "0%", "1e-9"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_separator_may_be_written_with_escapes() {
        assert_eq!(unescape("<|endoftext|>"), b"<|endoftext|>");
        assert_eq!(unescape(r"\n\n"), b"\n\n");
        assert_eq!(unescape(r"a\\n\x\"), br"a\n\x\");
    }
}
