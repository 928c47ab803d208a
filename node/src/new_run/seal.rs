//! Writing `run.toml` into a data folder, and sealing it into a manifest.

use std::fs;
use std::io;
use std::path::PathBuf;

use weal_files::Access;
use weal_trainer::FileProgress;

use super::build::{Ingredients, Right};
use super::file::RunFile;
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::home::{Entered, Home, no_run};

/// Name of the run file in a data folder.
const FILE: &str = "run.toml";

/// Refuses a folder in which nothing can be run, before anything is written into it.
///
/// # Errors
/// When the folder holds neither a run nor a `run.toml`.
pub(crate) fn expect(folder: &Folder) -> Result<()> {
    if folder.has_run() || folder.path().join(FILE).exists() {
        Ok(())
    } else {
        Err(no_run(folder))
    }
}

/// Refuses a folder that holds a run, a part of one, or a `run.toml`.
///
/// # Errors
/// When it does.
pub(crate) fn expect_none(folder: &Folder) -> Result<()> {
    if folder.path().join(FILE).exists() || folder.has_run() || folder.store().exists() {
        let place = folder.path().display();
        return Err(Error::folder(format!("{place}: already holds a run")));
    }
    Ok(())
}

/// Writes a commented `run.toml` into a folder.
///
/// # Errors
/// When the folder holds a run or a `run.toml`, or cannot be written.
pub(crate) fn write_file(folder: &Folder, file: &RunFile) -> Result<PathBuf> {
    expect_none(folder)?;
    let path = folder.path().join(FILE);
    folder.write_genesis()?;
    weal_files::write(&path, Access::Owner, file.to_commented_toml()?.as_bytes())?;
    Ok(path)
}

/// Opens the run of a folder. If the folder has a `run.toml` but no manifest, the manifest is made
/// from it first. Only the folder that [`write_file`] wrote into begins the run: one in which
/// somebody put `run.toml` and `key` back may belong to a node that has begun it before. `progress`
/// is that of reading imported weights.
///
/// # Errors
/// When the folder holds neither, the file has a mistake, or a file that it names cannot be read.
pub(crate) fn seal(folder: &Folder, progress: FileProgress) -> Result<Home> {
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
    let ingredients = Ingredients {
        file: &file,
        relative_to: folder.path(),
        founder: folder.key()?.peer(),
        name: &path,
    };
    let new = ingredients.read(progress)?;
    let right = if folder.has_genesis() {
        Right::Begin
    } else {
        Right::Hear
    };
    new.adopt(Entered::Empty(empty), right)
}
