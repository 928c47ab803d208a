//! [`Prepare`]: turns text files into a folder of token shards.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::fetch::DownloadClient;
use super::index::{INDEX, PreparedIndex, PreparedSource, SHARDS, TOKENISER};
use super::kind::FileKind;
use super::pipeline::{Counters, Outcome, Pipeline};
use super::read::{ReadOptions, record_name};
use super::shard::Width;
use super::shard_writer::ShardWriter;
use super::sources::{self, Input, Location};
use super::tokenise::BatchTokeniser;
use crate::error::{Error, Result};
use crate::tokeniser::Tokeniser;
use crate::write_inside::write_inside;

/// The file that lists bad records.
const BAD_RECORDS: &str = "bad-records.txt";
/// The most bad records in the summary; the file lists all of them.
const BAD_SHOWN: usize = 10;

/// Settings of a preparation.
#[derive(Clone, Debug)]
pub struct Prepare {
    /// Files, folders, patterns (`data/*.jsonl.gz`), URLs (`https://…`), and Hugging Face data sets
    /// (`hf://datasets/<owner>/<name>[@<revision>][/<path>]`).
    pub sources: Vec<String>,
    /// The kind of all files; `None` goes by their names.
    pub kind: Option<FileKind>,
    /// The tokeniser.
    pub tokeniser: Tokeniser,
    /// The token to put after each document.
    pub end_of_text: Option<u32>,
    /// The share of the text to hold out, in parts per million.
    pub heldout_ppm: u32,
    /// The field or column with a record's text.
    pub text_field: String,
    /// The separator of documents in a text file; empty if each file is one document.
    pub separator: Vec<u8>,
    /// A shard ends with the document that reaches this many tokens.
    pub shard_tokens: u64,
    /// Threads that tokenise.
    pub threads: usize,
    /// Downloads remote files.
    pub client: DownloadClient,
    /// The folder for downloads; `None` is `<folder>.downloads`.
    pub downloads: Option<PathBuf>,
    /// Keep downloaded files afterwards.
    pub keep_downloads: bool,
    /// Fail on the first bad record instead of counting it.
    pub strict: bool,
}

impl Prepare {
    /// The default settings: 2 % held out, shards of 16 M tokens, one thread per core.
    pub fn new(sources: Vec<String>, tokeniser: Tokeniser) -> Self {
        Self {
            sources,
            kind: None,
            tokeniser,
            end_of_text: None,
            heldout_ppm: 20_000,
            text_field: "text".to_owned(),
            separator: Vec::new(),
            shard_tokens: 1 << 24,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            client: DownloadClient::default(),
            downloads: None,
            keep_downloads: false,
            strict: false,
        }
    }
}

/// Progress of a preparation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Bytes of files read.
    pub read_bytes: u64,
    /// Bytes of all files whose length is known.
    pub total_bytes: u64,
    /// Bytes downloaded.
    pub fetched_bytes: u64,
    /// Documents tokenised.
    pub documents: u64,
    /// Tokens written.
    pub tokens: u64,
    /// Bad records.
    pub bad: u64,
}

/// The result of a preparation.
#[derive(Clone, Debug)]
pub struct PrepareSummary {
    /// The index of the new folder.
    pub index: PreparedIndex,
    /// Files that were skipped because their names do not show their kind.
    pub skipped: Vec<String>,
    /// The first bad records, with reasons.
    pub bad: Vec<String>,
}

impl Prepare {
    /// Prepares the data in a new folder, which appears once it is complete. `report` is called
    /// several times a second and may stop the preparation.
    ///
    /// # Errors
    /// [`Error::Prepare`], naming the file or URL at fault; [`Error::Stopped`]. Only downloads are
    /// left behind, for the next attempt.
    pub fn run(
        &self,
        folder: &Path,
        report: &mut dyn FnMut(&PrepareProgress) -> ControlFlow<()>,
    ) -> Result<PrepareSummary> {
        let (inputs, skipped) = sources::find(&self.sources, self.kind, &self.client)?;
        let downloads = self
            .downloads
            .clone()
            .unwrap_or_else(|| downloads_beside(folder));
        let fetches = inputs
            .iter()
            .any(|input| matches!(input.location, Location::Remote { .. }));
        if fetches {
            fs::create_dir_all(&downloads).map_err(|error| Error::write(&downloads, error))?;
        }
        let mut summary = None;
        weal_files::create_folder(folder, |inside| {
            summary = Some(self.fill(inside, &inputs, &downloads, report)?);
            Ok::<_, Error>(())
        })?;
        if fetches && !self.keep_downloads {
            let _ = fs::remove_dir_all(&downloads);
        }
        let (index, bad) = summary.ok_or(Error::Stopped)?;
        Ok(PrepareSummary {
            index,
            skipped,
            bad,
        })
    }

    fn fill(
        &self,
        folder: &Path,
        inputs: &[Input],
        downloads: &Path,
        report: &mut dyn FnMut(&PrepareProgress) -> ControlFlow<()>,
    ) -> Result<(PreparedIndex, Vec<String>)> {
        let width = Width::of_vocabulary(self.tokeniser.vocabulary());
        let tokeniser = BatchTokeniser {
            tokeniser: self.tokeniser.clone(),
            width,
            end_of_text: self.end_of_text,
            heldout_ppm: self.heldout_ppm,
            field: self.text_field.clone(),
        };
        let options = ReadOptions {
            field: self.text_field.clone(),
            separator: self.separator.clone(),
        };
        let pipeline = Pipeline {
            inputs,
            options: &options,
            tokeniser: &tokeniser,
            client: &self.client,
            downloads,
            threads: self.threads.max(1),
        };
        let known = inputs.iter().filter_map(|input| input.bytes).sum::<u64>();
        let mut collector = Collector::new(self, folder, inputs, width)?;
        let progress = std::cell::Cell::new(PrepareProgress::default());
        let counters = Counters::default();
        pipeline.run(
            &counters,
            &mut |outcome| {
                collector.take(outcome)?;
                progress.set(collector.progress);
                Ok(())
            },
            &mut |counters| {
                report(&PrepareProgress {
                    read_bytes: counters.read.load(Ordering::Relaxed),
                    total_bytes: known + counters.found.load(Ordering::Relaxed),
                    fetched_bytes: counters.fetched.load(Ordering::Relaxed),
                    ..progress.get()
                })
            },
        )?;
        collector.finish(folder)
    }
}

fn downloads_beside(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".downloads");
    PathBuf::from(name)
}

/// Collects the tokenised batches: writes shards, counts, and lists bad records.
struct Collector<'a> {
    prepare: &'a Prepare,
    inputs: &'a [Input],
    index: PreparedIndex,
    training: ShardWriter,
    heldout: ShardWriter,
    bad_file: BufWriter<File>,
    bad: Vec<String>,
    progress: PrepareProgress,
}

impl<'a> Collector<'a> {
    fn new(prepare: &'a Prepare, folder: &Path, inputs: &'a [Input], width: Width) -> Result<Self> {
        let mut index = PreparedIndex::new(
            &prepare.tokeniser,
            width,
            prepare.end_of_text,
            prepare.heldout_ppm,
        );
        let source = |input: &Input| PreparedSource::new(input.name.clone());
        index.sources = inputs.iter().map(source).collect();
        let shards = folder.join(SHARDS);
        fs::create_dir(&shards).map_err(|error| Error::write(&shards, error))?;
        if let Tokeniser::File(file) = &prepare.tokeniser {
            write_inside(&folder.join(TOKENISER), file.json())?;
        }
        let bad = folder.join(BAD_RECORDS);
        let bad_file = File::create(&bad).map_err(|error| Error::write(&bad, error))?;
        Ok(Self {
            prepare,
            inputs,
            index,
            training: ShardWriter::new(&shards, width, prepare.shard_tokens.max(1)),
            heldout: ShardWriter::new(&shards, width, prepare.shard_tokens.max(1)),
            bad_file: BufWriter::new(bad_file),
            bad: Vec::new(),
            progress: PrepareProgress::default(),
        })
    }

    fn take(&mut self, outcome: Outcome) -> Result<()> {
        let Outcome {
            input: number,
            done,
        } = outcome;
        let (Some(input), Some(source)) =
            (self.inputs.get(number), self.index.sources.get_mut(number))
        else {
            return Ok(());
        };
        source.documents += done.documents;
        source.empty += done.empty;
        source.bad += done.bad.len() as u64;
        source.text_bytes += done.training.text_bytes + done.heldout.text_bytes;
        for bad in &done.bad {
            let record = record_name(input.kind, bad.number);
            if self.prepare.strict {
                let place = format!("{}, {record}", input.name);
                return Err(Error::prepare(place, &bad.reason));
            }
            let line = format!("{}, {record}: {}", input.name, bad.reason);
            writeln!(self.bad_file, "{line}")
                .map_err(|error| Error::write(Path::new(BAD_RECORDS), error))?;
            if self.bad.len() < BAD_SHOWN {
                self.bad.push(line);
            }
        }
        self.progress.documents += done.documents;
        self.progress.bad += done.bad.len() as u64;
        let tokens = (done.training.bytes.len() + done.heldout.bytes.len()) as u64;
        self.progress.tokens += tokens / u64::from(self.index.token_bytes);
        self.training.push(&done.training)?;
        self.heldout.push(&done.heldout)
    }

    fn finish(mut self, folder: &Path) -> Result<(PreparedIndex, Vec<String>)> {
        self.index.training = self.training.finish()?;
        self.index.heldout = self.heldout.finish()?;
        self.bad_file
            .flush()
            .map_err(|error| Error::write(Path::new(BAD_RECORDS), error))?;
        let place = self.prepare.sources.join(" ");
        if self.index.training.tokens == 0 {
            let bad = self.progress.bad;
            let first = self
                .bad
                .first()
                .map(|bad| format!("; the first: {bad}"))
                .unwrap_or_default();
            let reason = format!("it holds no text to learn from ({bad} bad records{first})");
            return Err(Error::prepare(place, reason));
        }
        if self.index.heldout.tokens == 0 && self.prepare.heldout_ppm > 0 {
            return Err(Error::Prepare {
                place,
                reason: "it holds so little text that none of it is held out".to_owned(),
                hint: Some("add text, or hold out more with --heldout".into()),
            });
        }
        if self.progress.bad == 0 {
            let _ = fs::remove_file(folder.join(BAD_RECORDS));
        }
        let mut json = serde_json::to_vec_pretty(&self.index)
            .map_err(|error| Error::write(Path::new(INDEX), error))?;
        json.push(b'\n');
        write_inside(&folder.join(INDEX), &json)?;
        Ok((self.index, self.bad))
    }
}
