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

/// A run ready to be started: its manifest, and the bytes the manifest names.
#[derive(Debug)]
pub struct NewRun {
    /// What fixes the run.
    pub manifest: Manifest,
    files: Vec<Vec<u8>>,
    /// Files that are not read whole: shards of tokens.
    shards: Vec<(PathBuf, BlobHash)>,
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
                Start::preset(&file.model.preset, context, &initial_seed(file.seed)).map_err(wrong)?
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
