//! A run that is ready to start.

use std::path::{Path, PathBuf};

use weal_proto::manifest::{Data, Manifest};
use weal_proto::{BlobHash, PeerId};
use weal_trainer::Checkpoint;

use super::file::RunFile;
use super::prepared::{self, Prepared};
use super::start::{Start, initial_seed};
use super::texts::Texts;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{Entered, Home};
use crate::store::blobs::Keep;

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
struct Ingredients<'a> {
    file: &'a RunFile,
    /// Where the paths in the file start.
    relative_to: &'a Path,
    /// The founder, unless the file names others.
    founder: PeerId,
    /// The file's name in errors.
    name: &'a Path,
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
        ingredients.build(Texts::Read)
    }

    /// Checks the file and everything it names, without reading the texts, which may be large. The
    /// manifest differs from the final one only in the hashes of the texts.
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
        Ok(ingredients.build(Texts::Find)?.manifest)
    }

    /// Puts the run into a folder: first everything that the manifest names, then the manifest.
    ///
    /// # Errors
    /// When the folder holds another run, or cannot be written.
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

impl Ingredients<'_> {
    fn build(&self, texts: Texts) -> Result<NewRun> {
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
        let (model, initial, tokeniser) = self.start(&mut files)?.with_tokeniser(
            tokeniser.as_deref(),
            prepared.as_ref(),
            &mut files,
        )?;
        let data = if let Some(prepared) = prepared {
            shards = prepared.shards();
            prepared.data()
        } else if paths.is_empty() {
            Data::Generator {
                seed: self.file.data.generator_seed,
                bytes: self.file.data.generator_bytes,
            }
        } else {
            Data::Sources(texts.sources(&paths, &mut files)?)
        };
        let manifest = self
            .file
            .manifest(&model, initial, tokeniser, data, self.founder)
            .map_err(|why| self.wrong(why))?;
        manifest
            .validate()
            .map_err(|error| self.wrong(error.to_string()))?;
        check_length(&manifest)?;
        Ok(NewRun {
            manifest,
            files,
            shards,
        })
    }

    fn start(&self, files: &mut Vec<Vec<u8>>) -> Result<Start> {
        let model = &self.file.model;
        let context = model.context.map(|context| context as usize);
        match &model.checkpoint {
            None => Start::preset(&model.preset, context, &initial_seed(self.file.seed)).map_err(
                |error| error.context(format!("{}: wrong model.preset", self.name.display())),
            ),
            Some(folder) => {
                let folder = self.relative_to.join(folder);
                let checkpoint = Checkpoint::read(&folder, context, &mut |_, _| {})
                    .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
                Ok(Start::checkpoint(checkpoint, files))
            }
        }
    }

    fn wrong(&self, why: String) -> Error {
        Error::configuration(self.name.display(), why)
    }
}

/// Refuses text that is too short for one window, before anyone joins.
fn check_length(manifest: &Manifest) -> Result<()> {
    let context = manifest.model.context;
    let sources = match &manifest.data {
        Data::Generator { .. } => return Ok(()),
        Data::Prepared(tokens) => return prepared::check_length(tokens, context),
        Data::Sources(sources) => sources,
    };
    let bytes: u64 = sources.iter().map(|source| source.bytes).sum();
    let needed = 20 * (u64::from(context) + 1);
    if bytes < needed {
        return Err(Error::data(format!(
            "{bytes} bytes of text are too few for a context of {context} tokens; \
             at least {needed} bytes are needed"
        ))
        .with_hint("give more text with --data"));
    }
    Ok(())
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
    fn text_that_is_too_short_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("short.txt"), "to be").unwrap();
        let mut file = RunFile::default();
        file.data.files = vec!["short.txt".into()];
        assert_eq!(build(&file, dir.path()).unwrap_err().code(), 4);
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
            let home = new.adopt(folder.enter().unwrap()).unwrap();
            assert!(
                named_blobs(&new.manifest)
                    .iter()
                    .all(|blob| home.blobs.has(&blob.hash))
            );
        }
    }
}
