//! `weal eval`: measures how well a model predicts text and answers questions.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::{Map, Value, json};
use weal_trainer::{
    Asked, EXAMPLE_SEED, Evaluator, ExampleOrder, Examples, FileKind, GroupScores, Measured,
    PlainText, Record, Task, TaskScores, mmlu_groups, read_records, read_text,
};

use super::args::{JsonArgs, print_json};
use super::open::{ModelArgs, Purpose};
use super::runtime::set_threads;
use crate::error::{Error, ErrorKind, Result};
use crate::terminal::{print_line, say};

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Files to evaluate on. Files of JSON (.jsonl, .json, also with .gz or .zst) or Parquet hold
    /// the questions of a benchmark, as the Hugging Face Hub has them. Any other file is text to
    /// predict.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    tasks: TaskArgs,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// How questions are asked.
#[derive(Debug, Args)]
struct TaskArgs {
    /// Benchmark that the files hold, by its name in lm-evaluation-harness: arc_easy,
    /// arc_challenge, hellaswag, piqa, winogrande, openbookqa, boolq, lambada_openai,
    /// lambada_standard, mmlu, mmlu_<subject>, or choices (keys context, choices, answer). By
    /// default, the one that the keys of the records belong to.
    #[arg(long, value_name = "TASK")]
    task: Option<Task>,
    /// Solved examples in front of each question.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    shots: usize,
    /// File that the examples are taken from: the benchmark's training part, or MMLU's dev part.
    /// Repeat the flag for more.
    #[arg(long, value_name = "FILE")]
    shots_from: Vec<PathBuf>,
    /// Take the first examples of that file, as for MMLU, instead of drawing them for each
    /// question.
    #[arg(long)]
    first_shots: bool,
    /// Seed of drawing the examples.
    #[arg(long, value_name = "SEED", default_value_t = EXAMPLE_SEED,
        conflicts_with = "first_shots")]
    shots_seed: u64,
    /// Ask only the first questions of each benchmark or subject.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Write every question with the score of each choice to this file, as JSON lines.
    #[arg(long, value_name = "FILE")]
    log_samples: Option<PathBuf>,
}

/// What a file holds.
enum Content {
    Text(Vec<u8>),
    Tasks(Vec<Asked>),
}

impl EvalArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        set_threads(0)?;
        // Files that cannot be used are reported before the model, which may be large, is read.
        let examples = self.tasks.examples()?;
        let contents = self
            .files
            .iter()
            .map(|file| self.tasks.content(file, &examples))
            .collect::<Result<Vec<_>>>()?;
        let mut log = self.tasks.log_samples.as_deref().map(Log::create);
        let mut log = log.take().transpose()?;
        let (loaded, device) = self.model.open(Purpose::Evaluation)?;
        let mut evaluator =
            Evaluator::new(loaded.model, loaded.tokeniser, &loaded.weights, &device)
                .map_err(|error| Error::from(error).with_kind(ErrorKind::Device))?;
        let mut all = Vec::new();
        for (file, content) in self.files.iter().zip(&contents) {
            match content {
                Content::Text(text) => self.print(&text_result(&mut evaluator, file, text)?)?,
                Content::Tasks(tasks) => {
                    for asked in tasks {
                        let scores = task_scores(&mut evaluator, file, asked)?;
                        self.print(&TaskResult::of(file, asked, &scores))?;
                        log.iter_mut()
                            .try_for_each(|log| log.write(asked, &scores))?;
                        all.push(scores);
                    }
                }
            }
        }
        for group in mmlu_groups(&all) {
            self.print(&GroupResult::of(&group))?;
        }
        log.map_or(Ok(()), Log::finish)?;
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, result: &(impl Serialize + fmt::Display)) -> Result<()> {
        if self.json.json {
            return print_json(result);
        }
        print_line!("{result}")
    }
}

impl TaskArgs {
    fn examples(&self) -> Result<Examples> {
        let mut records: Vec<Record> = Vec::new();
        for file in &self.shots_from {
            records.extend(read_records(file).map_err(unusable)?);
        }
        let is_default = self.shots_seed == EXAMPLE_SEED;
        let order = match self.first_shots {
            true => Some(ExampleOrder::First),
            false if is_default => None,
            false => Some(ExampleOrder::Drawn {
                seed: self.shots_seed,
            }),
        };
        Ok(Examples {
            count: self.shots,
            records,
            order,
        })
    }

    fn content(&self, file: &Path, examples: &Examples) -> Result<Content> {
        let kind = FileKind::of(&file.to_string_lossy());
        let holds_records = matches!(kind, Some(FileKind::JsonLines | FileKind::Parquet));
        if self.task.is_none() && !holds_records {
            return text_of(file).map(Content::Text);
        }
        let records = read_records(file).map_err(unusable)?;
        let tasks = Asked::all(self.task, records, examples, self.limit).map_err(unusable)?;
        if tasks.is_empty() {
            let task = self.task.map_or_else(String::new, |task| task.to_string());
            return Err(Error::data(format!(
                "{}: holds no questions of {task}",
                file.display()
            )));
        }
        Ok(Content::Tasks(tasks))
    }
}

fn text_of(file: &Path) -> Result<Vec<u8>> {
    let PlainText { text, note } = read_text(file).map_err(unusable)?;
    if let Some(note) = note {
        say!("{note}");
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::data(format!("{}: empty", file.display()))
            .with_hint("give a file with text or questions"));
    }
    Ok(text)
}

fn unusable(error: weal_trainer::Error) -> Error {
    match error {
        error @ (weal_trainer::Error::Device { .. } | weal_trainer::Error::OutOfMemory { .. }) => {
            Error::from(error).with_kind(ErrorKind::Device)
        }
        error => Error::from(error).with_kind(ErrorKind::Data),
    }
}

/// Runs `work` with a bar that shows its progress.
fn with_bar<T>(work: impl FnOnce(&mut dyn FnMut(u64, u64)) -> T) -> T {
    let bar = ProgressBar::new(0);
    let found = work(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    found
}

fn task_scores(evaluator: &mut Evaluator, file: &Path, asked: &Asked) -> Result<TaskScores> {
    let scores = with_bar(|progress| evaluator.requests(asked.requests(), progress));
    let scores = scores.map_err(|error| {
        unusable(error).context(format!("{}: cannot be evaluated", file.display()))
    })?;
    Ok(TaskScores::of(asked, &scores))
}

/// How well a text is predicted.
#[derive(Debug, Serialize)]
struct TextResult {
    file: String,
    tokens: u64,
    bytes: u64,
    nats_per_token: f64,
    perplexity: f64,
    bits_per_byte: f64,
}

fn text_result(evaluator: &mut Evaluator, path: &Path, text: &[u8]) -> Result<TextResult> {
    let file = path.display().to_string();
    let found = with_bar(|progress| evaluator.text(text, progress))
        .map_err(|error| unusable(error).context(format!("{file}: cannot be evaluated")))?;
    Ok(TextResult {
        file,
        tokens: found.tokens,
        bytes: found.bytes,
        nats_per_token: found.nats_per_token,
        perplexity: found.nats_per_token.exp(),
        bits_per_byte: found.nats_per_byte / std::f64::consts::LN_2,
    })
}

impl fmt::Display for TextResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            tokens,
            bytes,
            nats_per_token,
            perplexity,
            bits_per_byte,
        } = self;
        write!(
            f,
            "{file}: {tokens} tokens, {bytes} bytes: {nats_per_token:.4} nats per token, \
             perplexity {perplexity:.3}, {bits_per_byte:.4} bits per byte"
        )
    }
}

/// The metrics of a task, with the harness' names.
#[derive(Debug, Serialize)]
struct TaskResult {
    file: String,
    task: String,
    task_version: &'static str,
    shots: usize,
    questions: usize,
    #[serde(flatten)]
    metrics: Metrics,
}

impl TaskResult {
    fn of(file: &Path, asked: &Asked, scores: &TaskScores) -> Self {
        Self {
            file: file.display().to_string(),
            task: scores.task.to_string(),
            task_version: scores.task.version(),
            shots: asked.examples,
            questions: scores.questions,
            metrics: Metrics(scores.metrics.clone()),
        }
    }
}

impl fmt::Display for TaskResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            task,
            shots,
            questions,
            metrics,
            ..
        } = self;
        write!(f, "{file}: {questions} questions ({task}")?;
        if *shots > 0 {
            write!(f, ", {shots} shots")?;
        }
        write!(f, "): {metrics}")
    }
}

/// The accuracy over a group of MMLU's subjects.
#[derive(Debug, Serialize)]
struct GroupResult {
    group: String,
    group_version: &'static str,
    subjects: usize,
    questions: usize,
    #[serde(flatten)]
    metrics: Metrics,
}

impl GroupResult {
    fn of(scores: &GroupScores) -> Self {
        Self {
            group: scores.group.to_string(),
            group_version: Task::Mmlu.version(),
            subjects: scores.subjects,
            questions: scores.questions,
            metrics: Metrics(vec![scores.accuracy]),
        }
    }
}

impl fmt::Display for GroupResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group,
            subjects,
            questions,
            metrics,
            ..
        } = self;
        write!(
            f,
            "{group}: {questions} questions of {subjects} subjects: {metrics}"
        )
    }
}

/// Values with their standard errors, as `acc` and `acc_stderr`.
#[derive(Debug)]
struct Metrics(Vec<Measured>);

impl Serialize for Metrics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = Map::new();
        for measured in &self.0 {
            map.insert(measured.metric.to_string(), measured.value.into());
            let error = Value::from(measured.standard_error);
            map.insert(format!("{}_stderr", measured.metric), error);
        }
        map.serialize(serializer)
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, measured) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{} {:.4}", measured.metric, measured.value)?;
            if let Some(error) = measured.standard_error {
                write!(f, " ± {error:.4}")?;
            }
        }
        Ok(())
    }
}

/// The file that every question is written to.
struct Log {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Log {
    fn create(path: &Path) -> Result<Self> {
        let failed = Error::storage("cannot write", path);
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(File::create(path).map_err(failed)?),
        })
    }

    fn write(&mut self, asked: &Asked, scores: &TaskScores) -> Result<()> {
        let documents = asked.documents.iter().zip(&scores.documents);
        for (number, (document, score)) in documents.enumerate() {
            let arguments: Vec<_> = document
                .requests
                .iter()
                .map(|request| [&*request.context, &request.continuation])
                .collect();
            let responses: Vec<_> = score
                .requests
                .iter()
                .map(|score| json!([score.log_likelihood, score.is_greedy]))
                .collect();
            let mut line = json!({
                "task": asked.task.to_string(),
                "doc_id": number,
                "target": document.right,
                "arguments": arguments,
                "resps": responses,
            });
            for metric in asked.task.metrics() {
                line[metric.to_string()] = score.value(*metric, document).into();
            }
            writeln!(self.file, "{line}").map_err(Error::storage("cannot write", &self.path))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let flushed = self.file.flush();
        flushed.map_err(Error::storage("cannot write", &self.path))
    }
}
