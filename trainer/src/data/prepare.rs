//! [`Prepare`]: turns text files into a folder of token shards.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::fetch::DownloadClient;
use super::index::{PreparedIndex, PreparedSource, SETTINGS, SHARDS, TOKENISER};
use super::kind::FileKind;
use super::pipeline::{Counters, Outcome, Pipeline};
use super::read::{DataFile, ReadOptions, record_name};
use super::shard_format::Width;
use super::shard_writer::ShardWriter;
use super::sources::{self, Input, Location, Sources};
use super::split::{Piece, Split};
use super::summary::{BAD_RECORDS, Dealt, PrepareProgress, PrepareSummary};
use super::tokenise::BatchTokeniser;
use crate::error::{Error, Result};
use crate::tokeniser::{LostLetters, Tokeniser};
use crate::write_inside::write_inside;

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
    /// The share of the text to hold out, in parts per million.
    pub heldout_ppm: u32,
    /// The field or column with a record's text.
    pub text_field: String,
    /// Learn only the assistant's answers in records of messages, instead of all tokens.
    pub loss_on_answers: bool,
    /// The separator of documents in a text file; empty if each file is one document.
    pub separator: Vec<u8>,
    /// A shard ends with the document that reaches this many tokens.
    pub shard_tokens: u64,
    /// Threads that tokenise.
    pub threads: usize,
    /// Downloads remote files.
    pub client: DownloadClient,
    /// The folder for downloads. `None` is `<folder>.downloads`, or `.weal-downloads` in the folder
    /// if that exists: it may be a volume, beside which nothing can be written.
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
            heldout_ppm: 20_000,
            text_field: "text".to_owned(),
            loss_on_answers: false,
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
        if self.heldout_ppm == 0 {
            return Err(Error::Prepare {
                place: self.sources.join(" "),
                reason: "a run measures itself on held-out text, but none is to be held out".into(),
                hint: Some("hold out a share of it with --heldout".into()),
            });
        }
        weal_files::can_create_folder(folder)?;
        let Sources { inputs, left_out } = sources::find(&self.sources, self.kind, &self.client)?;
        self.examine(&inputs)?;
        let downloads = self
            .downloads
            .clone()
            .unwrap_or_else(|| downloads_of(folder));
        let fetches = inputs
            .iter()
            .any(|input| matches!(input.location, Location::Remote { .. }));
        let _downloads = match fetches {
            true => Some(weal_files::FolderIfUsed::make(&downloads)?),
            false => None,
        };
        let mut summary = None;
        weal_files::create_folder(folder, |inside| {
            let pass = Pass {
                prepare: self,
                folder: inside,
                inputs: &inputs,
                downloads: &downloads,
            };
            summary = Some(self.fill(&pass, report)?);
            Ok::<_, Error>(())
        })?;
        if fetches && !self.keep_downloads {
            let _ = fs::remove_dir_all(&downloads);
        }
        let summary = summary.ok_or(Error::Stopped)?;
        Ok(PrepareSummary {
            left_out,
            ..summary
        })
    }

    /// Refuses local files that cannot be read, before work on the others begins.
    fn examine(&self, inputs: &[Input]) -> Result<()> {
        let options = self.read_options();
        for Input {
            name,
            kind,
            location,
            ..
        } in inputs
        {
            if let Location::Local(path) = location {
                let kind = *kind;
                DataFile { name, path, kind }.examine(&options)?;
            }
        }
        Ok(())
    }

    fn read_options(&self) -> ReadOptions {
        ReadOptions {
            field: self.text_field.clone(),
            separator: self.separator.clone(),
        }
    }

    fn fill(&self, pass: &Pass<'_>, report: &mut Report<'_>) -> Result<PrepareSummary> {
        let whole = Split::documents(self.heldout_ppm);
        let mut dealt = pass.run(whole, false, report)?;
        let mut note = None;
        if dealt.index.training.tokens == 0 || dealt.index.heldout.tokens == 0 {
            let (split, why) = self.split_little(pass, &dealt, report)?;
            dealt = pass.run(split, false, report)?;
            note = Some(why);
        }
        Ok(PrepareSummary {
            index: dealt.write_index(pass.folder)?,
            left_out: Vec::new(),
            bad: dealt.bad,
            lost: dealt.lost,
            notes: dealt.notes,
            repaired: dealt.repaired,
            heldout_note: note,
        })
    }

    /// How to split text of which no document, or every document, would be held out.
    fn split_little(
        &self,
        pass: &Pass<'_>,
        dealt: &Dealt,
        report: &mut Report<'_>,
    ) -> Result<(Split, String)> {
        let place = self.sources.join(" ");
        let Some(lowest) = dealt.lowest else {
            let bad = dealt.bad_records;
            let first = dealt.bad.first().map(|bad| format!("; the first: {bad}"));
            let first = first.unwrap_or_default();
            let reason = format!("it holds no text to learn from ({bad} bad records{first})");
            return Err(Error::prepare(place, reason));
        };
        if dealt.index.heldout.tokens == 0 && lowest.bytes <= dealt.bytes / 4 {
            let split = Split {
                bound: u128::from(lowest.fingerprint) + 1,
                ..Split::documents(0)
            };
            let bytes = lowest.bytes;
            let note = format!("so little text that one document of {bytes} bytes is held out");
            return Ok((split, note));
        }
        let sections = Split::sections(dealt.bytes, self.heldout_ppm);
        let pieces = pass.run(sections, true, report)?.pieces;
        let split = sections.choose(pieces, self.heldout_ppm);
        let split = split.ok_or_else(|| Error::Prepare {
            place,
            reason: "it holds so little text that none of it can be held out".to_owned(),
            hint: Some("add text".into()),
        })?;
        let bytes = sections.cutter.least;
        let note = format!(
            "so few documents that they were divided in pieces of {bytes} bytes or more, some of \
             which are held out"
        );
        Ok((split, note))
    }
}

type Report<'a> = dyn FnMut(&PrepareProgress) -> ControlFlow<()> + 'a;

/// One pass over all inputs, which writes new shards into the folder.
struct Pass<'a> {
    prepare: &'a Prepare,
    folder: &'a Path,
    inputs: &'a [Input],
    downloads: &'a Path,
}

impl Pass<'_> {
    /// Reads all text and deals it as `split` says. A `survey` writes no tokens, and lists all
    /// pieces.
    fn run(&self, split: Split, survey: bool, report: &mut Report<'_>) -> Result<Dealt> {
        let Self {
            prepare, inputs, ..
        } = *self;
        let width = Width::of_vocabulary(prepare.tokeniser.vocabulary());
        let tokeniser = BatchTokeniser {
            tokeniser: prepare.tokeniser.clone(),
            width,
            split,
            survey,
            field: prepare.text_field.clone(),
            loss_on_answers: prepare.loss_on_answers,
        };
        let options = prepare.read_options();
        let pipeline = Pipeline {
            inputs,
            options: &options,
            tokeniser: &tokeniser,
            client: &prepare.client,
            downloads: self.downloads,
            threads: prepare.threads.max(1),
        };
        let known = inputs.iter().filter_map(|input| input.bytes).sum::<u64>();
        let mut collector = Collector::new(self, width, survey)?;
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
        collector.finish()
    }
}

fn downloads_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".downloads");
    let beside = PathBuf::from(name);
    if folder.is_dir() && !beside.exists() {
        folder.join(".weal-downloads")
    } else {
        beside
    }
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
    notes: Vec<String>,
    lost: LostLetters,
    repaired: u64,
    progress: PrepareProgress,
    survey: bool,
    lowest: Option<Piece>,
    pieces: Vec<Piece>,
    bytes: u64,
}

impl<'a> Collector<'a> {
    fn new(pass: &Pass<'a>, width: Width, survey: bool) -> Result<Self> {
        let Pass {
            prepare,
            folder,
            inputs,
            ..
        } = *pass;
        let mut index = PreparedIndex::new(&prepare.tokeniser, width, prepare.heldout_ppm);
        let source = |input: &Input| PreparedSource::new(input.name.clone());
        index.sources = inputs.iter().map(source).collect();
        let shards = folder.join(SHARDS);
        // An earlier pass may have left shards.
        let _ = fs::remove_dir_all(&shards);
        fs::create_dir(&shards).map_err(|error| Error::write(&shards, error))?;
        if let Tokeniser::File(file) = &prepare.tokeniser {
            write_inside(&folder.join(TOKENISER), file.json())?;
            write_inside(&folder.join(SETTINGS), &file.settings().to_bytes()?)?;
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
            notes: Vec::new(),
            lost: LostLetters::default(),
            repaired: 0,
            progress: PrepareProgress::default(),
            survey,
            lowest: None,
            pieces: Vec::new(),
            bytes: 0,
        })
    }

    fn take(&mut self, outcome: Outcome) -> Result<()> {
        let Outcome {
            input: number,
            done,
            notes,
        } = outcome;
        self.notes.extend(notes);
        self.lost.add(done.lost);
        self.repaired += done.repaired;
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
        self.bytes += done.pieces.iter().map(|piece| piece.bytes).sum::<u64>();
        self.lowest = done.pieces.iter().copied().chain(self.lowest).min();
        if self.survey {
            self.pieces.extend(done.pieces);
        }
        self.training.push(&done.training)?;
        self.heldout.push(&done.heldout)
    }

    fn finish(mut self) -> Result<Dealt> {
        self.index.training = self.training.finish()?;
        self.index.heldout = self.heldout.finish()?;
        self.bad_file
            .flush()
            .map_err(|error| Error::write(Path::new(BAD_RECORDS), error))?;
        Ok(Dealt {
            index: self.index,
            bad: self.bad,
            bad_records: self.progress.bad,
            notes: self.notes,
            lost: self.lost,
            repaired: self.repaired,
            bytes: self.bytes,
            lowest: self.lowest,
            pieces: self.pieces,
        })
    }
}
