//! Text from anywhere becomes token shards: read, dealt to training and held-out, tokenised on
//! every core, and written as files that are named by their content.
//!
//! The same files with the same settings give the same shards, byte for byte, whatever the machine
//! and its threads; so people who prepare the same data have the same run.
//!
//! What comes from outside is not trusted: a damaged file is refused by name, a record that cannot
//! be used is counted and named, and what is fetched is checked against the hash that its data set
//! lists, where it lists one.

mod fetch;
mod hub;
mod index;
mod pipeline;
mod place;
mod read;
mod sections;
mod shard;
mod work;
mod writer;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

pub use fetch::Client;
pub use index::{PreparedFolder, PreparedIndex, PreparedPart, PreparedShard, PreparedSource};
pub use place::Kind;
pub(crate) use sections::character_start;
pub(crate) use shard::{Shard, Width};

use self::index::{INDEX, SHARDS, TOKENISER};
use self::pipeline::{Counters, Outcome, Pipeline};
use self::place::Input;
use self::read::{Reading, record_name};
use self::work::Work;
use self::writer::ShardWriter;
use crate::atomic_file;
use crate::error::{Error, Result};
use crate::tokeniser::Tokeniser;

/// Name of the list of records that could not be used.
const BAD_RECORDS: &str = "bad-records.txt";
/// Bad records that are handed back; the file has all of them.
const BAD_SHOWN: usize = 10;

/// Data to be prepared.
#[derive(Clone, Debug)]
pub struct Prepare {
    /// Files, folders, patterns (`data/*.jsonl.gz`), addresses (`https://…`), Hugging Face data
    /// sets (`hf://datasets/<owner>/<name>[@<revision>][/<path>]`).
    pub sources: Vec<String>,
    /// What every file holds; none goes by their names.
    pub kind: Option<Kind>,
    /// What makes tokens of the text.
    pub tokeniser: Tokeniser,
    /// The token put after each document.
    pub end_of_text: Option<u32>,
    /// Share of the text that is held out, in parts per million.
    pub heldout_ppm: u32,
    /// Field or column that holds a record's text.
    pub text_field: String,
    /// What stands between the documents of a text file; empty where each file is one.
    pub separator: Vec<u8>,
    /// A shard ends with the document with which it reaches so many tokens.
    pub shard_tokens: u64,
    /// Threads that tokenise.
    pub threads: usize,
    /// What files are fetched with.
    pub client: Client,
    /// Where fetched files lie until all is done; none is `<folder>.downloads`.
    pub downloads: Option<PathBuf>,
    /// Keeps fetched files afterwards.
    pub keep_downloads: bool,
    /// Refuses the first record that cannot be used, in place of counting it.
    pub strict: bool,
}

impl Prepare {
    /// With the usual settings: 2 % held out, shards of 16 M tokens, a thread for each core.
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
            client: Client::default(),
            downloads: None,
            keep_downloads: false,
            strict: false,
        }
    }
}

/// How far the preparation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Bytes of files that were read.
    pub read_bytes: u64,
    /// Bytes of all files, as far as their lengths are known.
    pub total_bytes: u64,
    /// Bytes that were fetched from elsewhere.
    pub fetched_bytes: u64,
    /// Documents that are tokens now.
    pub documents: u64,
    /// Tokens.
    pub tokens: u64,
    /// Records that could not be used.
    pub bad: u64,
}

/// What was prepared.
#[derive(Clone, Debug)]
pub struct PrepareSummary {
    /// What the folder holds.
    pub index: PreparedIndex,
    /// Files that were found and left out, since their names do not say what they hold.
    pub left_out: Vec<String>,
    /// The first records that could not be used, and why.
    pub bad: Vec<String>,
}

impl Prepare {
    /// Prepares the data into a new folder, which appears when all is done. `told` hears several
    /// times a second how far it is, and may stop it.
    ///
    /// # Errors
    /// [`Error::Prepare`], naming the file or address at fault; [`Error::Stopped`]. Nothing is left
    /// behind then but what was fetched, with which a next attempt goes on.
    pub fn run(
        &self,
        folder: &Path,
        told: &mut dyn FnMut(&PrepareProgress) -> ControlFlow<()>,
    ) -> Result<PrepareSummary> {
        let (inputs, left_out) = place::find(&self.sources, self.kind, &self.client)?;
        let downloads = self
            .downloads
            .clone()
            .unwrap_or_else(|| downloads_beside(folder));
        let fetches = inputs
            .iter()
            .any(|input| matches!(input.place, place::Place::Remote { .. }));
        if fetches {
            fs::create_dir_all(&downloads).map_err(|error| Error::Prepare {
                place: downloads.display().to_string(),
                reason: error.to_string(),
            })?;
        }
        let mut summary = None;
        atomic_file::folder(folder, |inside| {
            summary = Some(self.fill(inside, &inputs, &downloads, told)?);
            Ok(())
        })?;
        if fetches && !self.keep_downloads {
            let _ = fs::remove_dir_all(&downloads);
        }
        let (index, bad) = summary.ok_or(Error::Stopped)?;
        Ok(PrepareSummary {
            index,
            left_out,
            bad,
        })
    }

    fn fill(
        &self,
        folder: &Path,
        inputs: &[Input],
        downloads: &Path,
        told: &mut dyn FnMut(&PrepareProgress) -> ControlFlow<()>,
    ) -> Result<(PreparedIndex, Vec<String>)> {
        let width = Width::of_vocabulary(self.tokeniser.vocabulary());
        let work = Work {
            tokeniser: self.tokeniser.clone(),
            width,
            end_of_text: self.end_of_text,
            heldout_ppm: self.heldout_ppm,
            field: self.text_field.clone(),
        };
        let reading = Reading {
            field: self.text_field.clone(),
            separator: self.separator.clone(),
        };
        let pipeline = Pipeline {
            inputs,
            reading: &reading,
            work: &work,
            client: &self.client,
            downloads,
            threads: self.threads.max(1),
        };
        let known = inputs.iter().filter_map(|input| input.bytes).sum::<u64>();
        let mut sink = Sink::new(self, folder, inputs, width)?;
        let progress = std::cell::Cell::new(PrepareProgress::default());
        let counters = Counters::default();
        pipeline.run(
            &counters,
            &mut |outcome| {
                sink.take(outcome)?;
                progress.set(sink.progress);
                Ok(())
            },
            &mut |counters| {
                told(&PrepareProgress {
                    read_bytes: counters.read.load(Ordering::Relaxed),
                    total_bytes: known + counters.found.load(Ordering::Relaxed),
                    fetched_bytes: counters.fetched.load(Ordering::Relaxed),
                    ..progress.get()
                })
            },
        )?;
        sink.finish(folder)
    }
}

fn downloads_beside(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".downloads");
    PathBuf::from(name)
}

/// Where the outcomes of all batches come together.
struct Sink<'a> {
    prepare: &'a Prepare,
    inputs: &'a [Input],
    index: PreparedIndex,
    training: ShardWriter,
    heldout: ShardWriter,
    bad_file: BufWriter<File>,
    bad: Vec<String>,
    progress: PrepareProgress,
}

impl<'a> Sink<'a> {
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
        fs::create_dir(&shards).map_err(|error| atomic_file::failed(&shards, error))?;
        if let Tokeniser::File(file) = &prepare.tokeniser {
            atomic_file::write(&folder.join(TOKENISER), file.json())?;
        }
        let bad = folder.join(BAD_RECORDS);
        let bad_file = File::create(&bad).map_err(|error| atomic_file::failed(&bad, error))?;
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
                return Err(Error::Prepare {
                    place,
                    reason: bad.reason.clone(),
                });
            }
            let line = format!("{}, {record}: {}", input.name, bad.reason);
            writeln!(self.bad_file, "{line}")
                .map_err(|error| atomic_file::failed(Path::new(BAD_RECORDS), error))?;
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
            .map_err(|error| atomic_file::failed(Path::new(BAD_RECORDS), error))?;
        let place = self.prepare.sources.join(" ");
        if self.index.training.tokens == 0 {
            let bad = self.progress.bad;
            let first = self
                .bad
                .first()
                .map(|bad| format!("; the first: {bad}"))
                .unwrap_or_default();
            let reason =
                format!("there is no text to learn from ({bad} records could not be used{first})");
            return Err(Error::Prepare { place, reason });
        }
        if self.index.heldout.tokens == 0 && self.prepare.heldout_ppm > 0 {
            let reason = "so little text that none of it is held out; give more, or hold out more with --heldout";
            return Err(Error::Prepare {
                place,
                reason: reason.to_owned(),
            });
        }
        if self.progress.bad == 0 {
            let _ = fs::remove_file(folder.join(BAD_RECORDS));
        }
        let mut json = serde_json::to_vec_pretty(&self.index).map_err(|error| Error::Prepare {
            place: INDEX.to_owned(),
            reason: error.to_string(),
        })?;
        json.push(b'\n');
        atomic_file::write(&folder.join(INDEX), &json)?;
        Ok((self.index, self.bad))
    }
}
