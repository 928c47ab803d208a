//! A run that is ready to start.

use std::path::{Path, PathBuf};

use weal_kernels::state;
use weal_proto::manifest::{Ancestor, Data, Manifest, Tokeniser};
use weal_proto::{BlobHash, PeerId, StateRoot};
use weal_trainer::{Checkpoint, FileProgress};

use super::file::RunFile;
use super::length;
use super::prepared::Prepared;
use super::start::{Start, initial_seed};
use super::texts::{Texts, tell_lost_letters};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{Entered, Home};
use crate::model_folder::model_folder;
use crate::store::blobs::Keep;
use crate::verify;

/// A run that is ready to start: its manifest, and the bytes that the manifest names.
#[derive(Debug)]
pub struct NewRun {
    /// The manifest; its hash is the run's id.
    pub manifest: Manifest,
    /// Texts, tokeniser and initial weights.
    files: Vec<Vec<u8>>,
    /// Shards of prepared tokens, which are not read into memory.
    shards: Vec<(PathBuf, BlobHash)>,
}

/// What a new run is made of.
pub(super) struct Ingredients<'a> {
    pub file: &'a RunFile,
    /// Where the paths in the file start.
    pub relative_to: &'a Path,
    /// The founder, unless the file names others.
    pub founder: PeerId,
    /// The file's name in errors.
    pub name: &'a Path,
}

impl NewRun {
    /// Reads everything that the file names and checks that it fits together. `founder` founds the
    /// run unless the file names other founders; `name` is the file's name in errors.
    ///
    /// # Errors
    /// When a key has a wrong value, with the values it accepts, or when a file cannot be read.
    pub fn from_file(
        file: &RunFile,
        relative_to: &Path,
        founder: PeerId,
        name: &Path,
    ) -> Result<Self> {
        let ingredients = Ingredients {
            file,
            relative_to,
            founder,
            name,
        };
        ingredients.read(&mut |_, _| {})
    }

    /// Checks the file and everything it names, without reading texts or imported weights, which
    /// may be large. The manifest differs from the final one only in their hashes.
    ///
    /// # Errors
    /// As for [`NewRun::from_file`].
    pub fn preview(
        file: &RunFile,
        relative_to: &Path,
        founder: PeerId,
        name: &Path,
    ) -> Result<Manifest> {
        let ingredients = Ingredients {
            file,
            relative_to,
            founder,
            name,
        };
        Ok(ingredients.build(Texts::Find, &mut |_, _| {})?.manifest)
    }

    /// Puts the run into a folder: first everything that the manifest names, then the manifest.
    ///
    /// # Errors
    /// When the folder holds another run, or cannot be written.
    pub fn adopt(&self, place: Entered, right: Right) -> Result<Home> {
        let home = match place {
            Entered::Run(home) => {
                home.folder.expect_run(home.run, self.manifest.run())?;
                *home
            }
            Entered::Empty(empty) => {
                let home = empty.begin(self.manifest.clone())?;
                if right == Right::Begin {
                    home.store.grant_genesis()?;
                }
                home
            }
        };
        home.folder.use_up_genesis()?;
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

/// Whether a node may begin a run, or has to hear of it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// The run is made here, and begins at round 0.
    Begin,
    /// The run may have been begun before, with this key and on a disk that is lost.
    Hear,
}

/// The run that trained a checkpoint, if its files name one and it still is what they name: a model
/// in f32 with that state root. One that was previewed has no weights to compare.
fn ancestor(folder: &Path, checkpoint: &Checkpoint) -> Result<Option<Ancestor>> {
    // Other programs' files may be laid out otherwise, and name no run.
    let Ok(Some((origin, _))) = verify::origin(folder) else {
        return Ok(None);
    };
    let layout = checkpoint.model.layout()?;
    if !checkpoint.weights.is_empty() {
        let root = StateRoot::from(state::root(&layout, &checkpoint.weights)?);
        if root != origin.root {
            tracing::warn!(
                "{}: these are not the weights that the files say they are, so the new run names \
                 no ancestor; export with --type f32",
                folder.display()
            );
            return Ok(None);
        }
    }
    Ok(Some(Ancestor {
        run: origin.run,
        round: origin.round,
        state_root: origin.root,
    }))
}

impl Ingredients<'_> {
    /// Reads everything, as [`NewRun::from_file`] does. `progress` is that of reading imported
    /// weights.
    pub(super) fn read(&self, progress: FileProgress) -> Result<NewRun> {
        self.build(Texts::Read, progress)
    }

    fn build(&self, texts: Texts, progress: FileProgress) -> Result<NewRun> {
        let mut files = Vec::new();
        let mut shards = Vec::new();
        let paths: Vec<_> = self
            .file
            .data
            .files
            .iter()
            .map(|path| self.relative_to.join(path))
            .collect();
        let prepared = Prepared::among(&paths)?;
        let tokeniser = self.file.tokeniser.file.as_ref();
        let tokeniser = tokeniser.map(|path| self.relative_to.join(path));
        let start = self.start(texts, progress, &mut files)?;
        let (model, initial, tokeniser) =
            start.with_tokeniser(tokeniser.as_deref(), prepared.as_ref(), &mut files)?;
        let data = if let Some(prepared) = prepared {
            shards = prepared.shards();
            prepared.data()
        } else if paths.is_empty() {
            Data::Generator {
                seed: self.file.data.generator_seed,
                bytes: self.file.data.generator_bytes.0,
            }
        } else {
            if let (Texts::Find, Tokeniser::File { .. }, Some(json)) =
                (texts, &tokeniser, files.last())
            {
                tell_lost_letters(json, &paths)?;
            }
            Data::Sources(texts.sources(&paths, &mut files)?)
        };
        let manifest = self
            .file
            .manifest(&model, initial, tokeniser, data, self.founder)
            .map_err(|why| self.wrong(why))?;
        manifest
            .validate()
            .map_err(|error| self.wrong(error.to_string()))?;
        length::check(&manifest, &paths, &files)?;
        Ok(NewRun {
            manifest,
            files,
            shards,
        })
    }

    fn start(
        &self,
        texts: Texts,
        progress: FileProgress,
        files: &mut Vec<Vec<u8>>,
    ) -> Result<Start> {
        let model = &self.file.model;
        let context = model.context.map(|context| context as usize);
        match &model.checkpoint {
            None => Start::preset(&model.preset, context, &initial_seed(self.file.seed)).map_err(
                |error| error.context(format!("{}: wrong model.preset", self.name.display())),
            ),
            Some(folder) => {
                let folder = model_folder(&self.relative_to.join(folder))?;
                let checkpoint = match texts {
                    Texts::Find => Checkpoint::preview(&folder, context),
                    Texts::Read => Checkpoint::read(&folder, context, progress),
                };
                let checkpoint =
                    checkpoint.map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
                let ancestor = ancestor(&folder, &checkpoint)?;
                Ok(Start::checkpoint(checkpoint, ancestor, files))
            }
        }
    }

    fn wrong(&self, why: String) -> Error {
        Error::configuration(self.name.display(), why)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::folder::Folder;
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
        let read: RunFile = toml::from_str(&file.to_commented_toml().unwrap()).unwrap();
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
    fn a_model_whose_contributions_are_tiny_makes_a_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = RunFile::default();
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../trainer/tests/models/llama");
        file.model.checkpoint = Some(model.into());
        let limits = build(&file, dir.path()).unwrap().manifest.limits;
        assert_eq!(limits.blob_bytes, 1024);
    }

    #[test]
    fn text_that_is_too_short_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("short.txt"), "to be").unwrap();
        let mut file = RunFile::default();
        file.data.files = vec!["short.txt".into()];
        assert_eq!(build(&file, dir.path()).unwrap_err().code(), 4);
    }

    /// What counts is tokens of each part: a part may be short where the whole is long enough.
    #[test]
    fn a_part_that_is_shorter_than_a_window_in_tokens_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let words = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
            "normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,
            "decoder":null,"model":{"type":"WordLevel","vocab":{"<unk>":0,"the":1,"seaside":2},
            "unk_token":"<unk>"}}"#;
        fs::write(dir.path().join("tokenizer.json"), words).unwrap();
        let text = |words: usize| fs::write(dir.path().join("a.txt"), "seaside ".repeat(words));
        let mut file = RunFile::default();
        file.data.files = vec!["a.txt".into()];
        file.tokeniser.file = Some("tokenizer.json".into());
        file.model.context = Some(128);
        let preview = |file: &RunFile| {
            NewRun::preview(file, dir.path(), [1; 32].into(), Path::new("run.toml"))
        };

        // 9,600 bytes, 1,200 tokens, 120 of them held out.
        text(1_200).unwrap();
        for error in [
            preview(&file).unwrap_err(),
            build(&file, dir.path()).unwrap_err(),
        ] {
            assert_eq!(error.code(), 4);
            let why = error.to_string();
            assert!(why.contains("held-out") && why.contains("129"), "{why}");
        }
        text(1_400).unwrap();
        preview(&file).unwrap();
        build(&file, dir.path()).unwrap();
        // The same text is long enough if each byte is a token.
        text(1_200).unwrap();
        file.tokeniser.file = None;
        preview(&file).unwrap();
    }

    #[test]
    fn an_adopted_folder_holds_everything_the_manifest_names() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("book.txt"), "call me ishmael ".repeat(1000)).unwrap();
        let mut file = RunFile::default();
        file.data.files = vec!["book.txt".into()];
        let new = build(&file, dir.path()).unwrap();
        let folder = Folder::new(dir.path().join("node"));
        for _ in 0..2 {
            let home = new.adopt(folder.enter().unwrap(), Right::Begin).unwrap();
            assert!(
                named_blobs(&new.manifest)
                    .iter()
                    .all(|blob| home.blobs.has(&blob.hash))
            );
        }
    }
}
