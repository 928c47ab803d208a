//! Making a run: `run.toml`, which a person writes and edits, becomes the manifest that is hashed.
//!
//! `weal new` writes the file; the first `weal run` in its folder seals it. From then on the
//! manifest is what counts, and changing the file changes nothing.

mod file;
mod prepared;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weal_files::Access;
use weal_proto::limits::CODEC;
use weal_proto::manifest::{
    AggregationRule, Compression, Data, DataSource, Founder, Initial, Inner, Limits, Manifest,
    Membership, Optimiser, Outer, OuterRate, PPM, Schedule, Timing, Tokeniser,
};
use weal_proto::{BlobHash, PeerId, Weight};
use weal_trainer::{Checkpoint, ModelSpec};

pub use file::{FounderChoice, RunFile};
pub(crate) use prepared::token_shards;

use crate::data::{self, FoundFile, TextFile};
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::home::{Entered, Home};
use crate::plan::{manifest_model, max_contribution_bytes};
use crate::store::blobs::Keep;
use crate::store::weights::to_bytes;
use prepared::Prepared;

/// Name of the file in a data folder.
const FILE: &str = "run.toml";

/// A run ready to be started: its manifest, and the bytes the manifest names.
#[derive(Debug)]
pub struct NewRun {
    /// What fixes the run.
    pub manifest: Manifest,
    files: Vec<Vec<u8>>,
    /// Files that are not read whole: shards of tokens.
    shards: Vec<(PathBuf, BlobHash)>,
}

/// A founder with the usual weight.
pub fn founder(peer: PeerId) -> FounderChoice {
    FounderChoice {
        peer,
        weight: file::FOUNDER_WEIGHT,
    }
}

/// Writes a commented `run.toml` into a folder.
///
/// # Errors
/// When the folder holds a run or a `run.toml`, or cannot be written.
pub fn write_file(folder: &Folder, file: &RunFile) -> Result<PathBuf> {
    let path = folder.path().join(FILE);
    if path.exists() || folder.manifest()?.is_some() {
        let place = folder.path().display();
        return Err(Error::folder(format!("{place}: already holds a run")));
    }
    weal_files::write(&path, Access::Owner, file.to_commented_toml().as_bytes())?;
    Ok(path)
}

/// Opens the run of a folder. A folder with a `run.toml` and no manifest gets its manifest now.
///
/// # Errors
/// When the folder holds neither, the file is wrong, or something it names cannot be read.
pub fn seal(folder: &Folder) -> Result<Home> {
    let empty = match folder.enter()? {
        Entered::Run(home) => return Ok(*home),
        Entered::Empty(empty) => empty,
    };
    let path = folder.path().join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(empty.no_run()),
        Err(error) => return Err(Error::storage("cannot read", &path)(error)),
    };
    let file: RunFile = toml::from_str(&text)
        .map_err(|error| Error::configuration(path.display(), error.to_string().trim()))?;
    let new = NewRun::from_file(&file, folder.path(), folder.key()?.peer(), &path)?;
    new.adopt(Entered::Empty(empty))
}

impl NewRun {
    /// Reads everything that the file names, and checks that it fits together.
    ///
    /// # Errors
    /// Which key is wrong, with what would be accepted; or what cannot be read.
    pub fn from_file(file: &RunFile, relative_to: &Path, own: PeerId, path: &Path) -> Result<Self> {
        Self::build(file, relative_to, own, path, Texts::Read)
    }

    /// Checks the file and what it names without reading the texts, which may be large. The
    /// manifest is the later one but for the hashes of the texts.
    ///
    /// # Errors
    /// As for [`NewRun::from_file`].
    pub fn preview(
        file: &RunFile,
        relative_to: &Path,
        own: PeerId,
        path: &Path,
    ) -> Result<Manifest> {
        Ok(Self::build(file, relative_to, own, path, Texts::Find)?.manifest)
    }

    fn build(
        file: &RunFile,
        relative_to: &Path,
        own: PeerId,
        path: &Path,
        texts: Texts,
    ) -> Result<Self> {
        let wrong = |why: String| Error::configuration(path.display(), why);
        let context = file.model.context.map(|context| context as usize);
        let mut files = Vec::new();
        let start = match &file.model.checkpoint {
            None => {
                Start::preset(&file.model.preset, context, &self::seed(file.seed)).map_err(wrong)?
            }
            Some(folder) => {
                let folder = relative_to.join(folder);
                let checkpoint = Checkpoint::read(&folder, context, &mut |_, _| {})
                    .map_err(|error| Error::of(ErrorKind::Data, error))?;
                Start::checkpoint(checkpoint, &mut files)
            }
        };
        let paths: Vec<_> = file
            .data
            .files
            .iter()
            .map(|path| relative_to.join(path))
            .collect();
        let prepared = Prepared::among(&paths)?;
        let tokeniser = file
            .tokeniser
            .file
            .as_ref()
            .map(|path| relative_to.join(path));
        let (spec, initial, tokeniser) =
            start.with_tokeniser(tokeniser.as_deref(), prepared.as_ref(), &mut files)?;
        let mut shards = Vec::new();
        let data = if let Some(prepared) = prepared {
            shards = prepared.shards();
            prepared.data()
        } else if paths.is_empty() {
            Data::Generator {
                seed: file.data.generator_seed,
                bytes: file.data.generator_bytes,
            }
        } else {
            Data::Sources(texts.sources(&paths, &mut files)?)
        };
        let manifest = file
            .manifest(&spec, initial, tokeniser, data, own)
            .map_err(wrong)?;
        manifest
            .validate()
            .map_err(|error| wrong(error.to_string()))?;
        let new = Self {
            manifest,
            files,
            shards,
        };
        new.check_text()?;
        Ok(new)
    }

    /// Text that is too short must be found out here, not by whoever joins.
    fn check_text(&self) -> Result<()> {
        let sources = match &self.manifest.data {
            Data::Generator { .. } => return Ok(()),
            Data::Prepared(tokens) => {
                return prepared::check_length(tokens, self.manifest.model.context);
            }
            Data::Sources(sources) => sources,
        };
        let bytes: u64 = sources.iter().map(|source| source.bytes).sum();
        let needed = 20 * (u64::from(self.manifest.model.context) + 1);
        if bytes < needed {
            return Err(Error::data(format!(
                "{bytes} bytes of text are too few for a context of {} tokens: at least {needed} are needed; give more with --data",
                self.manifest.model.context
            )));
        }
        Ok(())
    }

    /// Makes a folder the folder of this run, with everything the manifest names.
    ///
    /// # Errors
    /// When it holds another run, or cannot be written.
    pub fn adopt(&self, place: Entered) -> Result<Home> {
        let home = match place {
            Entered::Run(home) => {
                home.folder.expect_run(home.run, self.manifest.run())?;
                *home
            }
            Entered::Empty(empty) => empty.begin(self.manifest.clone())?,
        };
        for bytes in &self.files {
            home.blobs.put(bytes, Keep::Pinned, false)?;
        }
        for (path, hash) in &self.shards {
            home.blobs.put_file(path, hash)?;
        }
        home.settle()?;
        Ok(home)
    }
}

/// What is done with the texts that a run names.
#[derive(Debug, Clone, Copy)]
enum Texts {
    /// They are read and hashed.
    Read,
    /// They are only looked for.
    Find,
}

impl Texts {
    fn sources(self, paths: &[PathBuf], files: &mut Vec<Vec<u8>>) -> Result<Vec<DataSource>> {
        match self {
            Self::Find => {
                let found = data::find(paths)?;
                Ok(found.iter().map(FoundFile::unread_source).collect())
            }
            Self::Read => {
                let mut sources = Vec::new();
                for TextFile { source, text } in data::read(paths)? {
                    sources.push(source);
                    files.push(text);
                }
                Ok(sources)
            }
        }
    }
}

/// What a run begins with, before its tokeniser is known.
struct Start {
    spec: ModelSpec,
    initial: Initial,
    /// A `tokenizer.json` that belongs to the model.
    tokeniser: Option<Vec<u8>>,
    end_of_text: Option<u32>,
}

impl Start {
    fn preset(name: &str, context: Option<usize>, seed: &[u8; 32]) -> Result<Self, String> {
        let preset = ModelSpec::preset(name).map_err(|error| error.to_string())?;
        let spec = ModelSpec {
            context: context.unwrap_or(preset.context),
            ..preset
        };
        Ok(Self {
            spec,
            initial: Initial::Seed(*seed),
            tokeniser: None,
            end_of_text: None,
        })
    }

    fn checkpoint(checkpoint: Checkpoint, files: &mut Vec<Vec<u8>>) -> Self {
        let Checkpoint {
            model,
            weights,
            tokeniser,
            end_of_text,
        } = checkpoint;
        let bytes = to_bytes(&weights);
        drop(weights);
        let initial = Initial::Weights(weal_proto::Outline::of(&bytes).hash());
        files.push(bytes);
        Self {
            spec: model,
            initial,
            tokeniser,
            end_of_text,
        }
    }

    /// The tokeniser that `file` names, or the one that made the tokens, or the model's own, or
    /// bytes. A model that begins with random weights gets as many embeddings as there are tokens.
    fn with_tokeniser(
        self,
        file: Option<&Path>,
        prepared: Option<&Prepared>,
        files: &mut Vec<Vec<u8>>,
    ) -> Result<(ModelSpec, Initial, Tokeniser)> {
        let Self {
            mut spec,
            initial,
            tokeniser,
            end_of_text,
        } = self;
        let mut json = tokeniser;
        if let Some(path) = file {
            let [TextFile { text, .. }] = take_one(data::read(&[path.to_owned()])?)?;
            json = Some(text);
        }
        if let Some(prepared) = prepared {
            json = prepared.tokeniser(json)?;
        }
        let is_new = matches!(initial, Initial::Seed(_));
        let Some(json) = json else {
            if !is_new && spec.vocabulary != 256 {
                return Err(Error::data(
                    "there is no tokenizer.json beside the model; give one with --tokeniser",
                ));
            }
            return Ok((spec, initial, Tokeniser::Bytes));
        };
        let known = weal_trainer::Tokeniser::from_bytes(&json)
            .map_err(|error| Error::of(ErrorKind::Data, error))?;
        let vocabulary = known.vocabulary();
        if is_new {
            spec = spec.with_vocabulary(vocabulary);
        } else if vocabulary > spec.vocabulary {
            let rows = spec.vocabulary;
            return Err(Error::data(format!(
                "the tokeniser has {vocabulary} tokens, and the model's embedding {rows}: they do not belong together"
            )));
        }
        let of_tokens = prepared.and_then(Prepared::end_of_text);
        let end_of_text = of_tokens
            .or(end_of_text)
            .or_else(|| file.and_then(|path| known.end_of_text(path)));
        let hash = weal_proto::Outline::of(&json).hash();
        let tokeniser = Tokeniser::File {
            hash,
            bytes: json.len() as u64,
            end_of_text,
        };
        files.push(json);
        Ok((spec, initial, tokeniser))
    }
}

fn seed(number: u64) -> [u8; 32] {
    blake3::derive_key("commonweal initial weights v1", &number.to_le_bytes())
}

fn take_one(files: Vec<TextFile>) -> Result<[TextFile; 1]> {
    files
        .try_into()
        .map_err(|_| Error::data("the tokeniser must be one file, not a folder"))
}

fn ppm(key: &str, value: f64) -> Result<u32, String> {
    scaled(key, value, f64::from(PPM))
}

fn scaled(key: &str, value: f64, unit: f64) -> Result<u32, String> {
    let scaled = (value * unit).round();
    if (0.0..=f64::from(u32::MAX)).contains(&scaled) {
        Ok(scaled as u32)
    } else {
        Err(format!(
            "{key} is {value}; accepted: 0 to {}",
            f64::from(u32::MAX) / unit
        ))
    }
}

impl RunFile {
    fn manifest(
        &self,
        spec: &ModelSpec,
        initial: Initial,
        tokeniser: Tokeniser,
        data: Data,
        own: PeerId,
    ) -> Result<Manifest, String> {
        let mut founders = match self.founders.as_slice() {
            [] => vec![Founder {
                peer: own,
                weight: Weight(file::FOUNDER_WEIGHT),
            }],
            founders => founders
                .iter()
                .map(|f| Founder {
                    peer: f.peer,
                    weight: Weight(f.weight),
                })
                .collect(),
        };
        founders.sort_by_key(|founder| founder.peer);
        Ok(Manifest {
            name: self.name.clone(),
            model: manifest_model(spec)?,
            tokeniser,
            data,
            initial,
            inner: self.inner()?,
            compression: Compression {
                codec: CODEC,
                chunk: self.compression.chunk,
                keep: self.compression.keep,
                decay_ppm: ppm("compression.decay", self.compression.decay)?,
            },
            outer: self.outer()?,
            timing: self.timing()?,
            limits: Limits {
                contributions: self.limits.contributions,
                blob_bytes: self
                    .limits
                    .blob_bytes
                    .unwrap_or_else(|| self.blob_bytes(spec)),
                peers: self.limits.peers,
            },
            membership: Membership {
                weight_decay_ppm: ppm("membership.weight_decay", self.membership.weight_decay)?,
                credit: self.membership.credit,
                probation_rounds: self.membership.probation_rounds,
                vesting_rounds: self.membership.vesting_rounds,
                absence_rounds: self.membership.absence_rounds,
            },
            founders,
        })
    }

    fn inner(&self) -> Result<Inner, String> {
        let inner = &self.inner;
        let (optimiser, momentum_ppm) = match inner.optimiser {
            file::Optimiser::AdamW => (Optimiser::AdamW, 0),
            file::Optimiser::Muon => (Optimiser::Muon, ppm("inner.momentum", inner.momentum)?),
        };
        let (schedule, decay_start) = match inner.schedule {
            file::Schedule::Cosine => (Schedule::Cosine, 0),
            file::Schedule::Wsd => (Schedule::Wsd, inner.decay_start),
        };
        Ok(Inner {
            steps: inner.steps,
            batch: inner.batch,
            peak_learning_rate_ppb: scaled("inner.learning_rate", inner.learning_rate, 1e9)?,
            warmup_steps: inner.warmup_steps,
            decay_steps: inner.decay_steps,
            final_rate_ppm: ppm("inner.final_rate", inner.final_rate)?,
            beta1_ppm: ppm("inner.beta1", inner.beta1)?,
            beta2_ppm: ppm("inner.beta2", inner.beta2)?,
            weight_decay_ppm: ppm("inner.weight_decay", inner.weight_decay)?,
            gradient_clip_ppm: ppm("inner.gradient_clip", inner.gradient_clip)?,
            optimiser,
            momentum_ppm,
            schedule,
            decay_start,
        })
    }

    fn outer(&self) -> Result<Outer, String> {
        let rate = |(i, rate): (usize, &file::RateStep)| {
            let rate_ppm = ppm(&format!("outer.rates[{i}].rate"), rate.rate)?;
            Ok(OuterRate {
                from_round: rate.from_round,
                rate_ppm,
            })
        };
        let rates = self
            .outer
            .rates
            .iter()
            .enumerate()
            .map(rate)
            .collect::<Result<_, String>>()?;
        let rule = match self.outer.rule {
            file::Rule::MeanOfSenders => AggregationRule::MeanOfSenders,
            file::Rule::MeanOfAll => AggregationRule::MeanOfAll,
            file::Rule::RootOfSenders => AggregationRule::RootOfSenders,
        };
        Ok(Outer { rule, rates })
    }

    fn timing(&self) -> Result<Timing, String> {
        let ms = |key: &str, seconds: f64| scaled(key, seconds, 1e3);
        let timing = &self.timing;
        Ok(Timing {
            train_ms: ms("timing.train_seconds", timing.train_seconds)?,
            fetch_ms: ms("timing.fetch_seconds", timing.fetch_seconds)?,
            attest_ms: ms("timing.attest_seconds", timing.attest_seconds)?,
            propose_ms: ms("timing.propose_seconds", timing.propose_seconds)?,
            vote_ms: ms("timing.vote_seconds", timing.vote_seconds)?,
        })
    }

    /// What a contribution of this model takes at the most. Settings that make no sense are refused
    /// elsewhere.
    fn blob_bytes(&self, spec: &ModelSpec) -> u32 {
        let compression = weal_kernels::Compression {
            chunk: self.compression.chunk as usize,
            keep: self.compression.keep as usize,
            decay_ppm: 0,
        };
        let most = spec
            .layout()
            .ok()
            .and_then(|layout| max_contribution_bytes(&layout, &compression).ok());
        most.and_then(|most| u32::try_from(most).ok())
            .unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::named_blobs;

    fn build(file: &RunFile, folder: &Path) -> Result<NewRun> {
        NewRun::from_file(file, folder, [1; 32].into(), Path::new("run.toml"))
    }

    #[test]
    fn the_written_file_reads_back_as_the_same_run() {
        let file = RunFile {
            seed: 7,
            ..RunFile::default()
        };
        let read: RunFile = toml::from_str(&file.to_commented_toml()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            build(&read, dir.path()).unwrap().manifest.run(),
            build(&file, dir.path()).unwrap().manifest.run()
        );
    }

    #[test]
    fn a_wrong_value_names_key_value_and_what_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = RunFile::default();
        file.compression.keep = 5000;
        let error = build(&file, dir.path()).unwrap_err();
        assert_eq!(error.code(), 3);
        let text = error.to_string();
        assert!(
            text.contains("compression.keep is 5000") && text.contains("1 to 4096"),
            "{text}"
        );
    }

    #[test]
    fn text_that_is_too_short_is_refused_before_anyone_joins() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("short.txt"), "to be").unwrap();
        let mut file = RunFile::default();
        file.data.files = vec!["short.txt".into()];
        assert_eq!(build(&file, dir.path()).unwrap_err().code(), 4);
    }

    #[test]
    fn an_adopted_folder_has_all_that_the_manifest_names() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("book.txt"), "call me ishmael ".repeat(1000)).unwrap();
        let mut file = RunFile::default();
        file.data.files = vec!["book.txt".into()];
        let new = build(&file, dir.path()).unwrap();
        let folder = Folder::new(dir.path().join("node"));
        for _ in 0..2 {
            let home = new.adopt(folder.enter().unwrap()).unwrap();
            assert!(
                named_blobs(&new.manifest)
                    .iter()
                    .all(|blob| home.blobs.has(&blob.hash))
            );
        }
    }
}
