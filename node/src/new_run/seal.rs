//! Writing `run.toml` into a data folder, and sealing it into a manifest.

use std::fs;
use std::io;
use std::path::PathBuf;

use weal_files::Access;

use super::build::NewRun;
use super::file::RunFile;
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::home::{Entered, Home};

/// Name of the run file in a data folder.
const FILE: &str = "run.toml";

/// Writes a commented `run.toml` into a folder.
///
/// # Errors
/// When the folder holds a run or a `run.toml`, or cannot be written.
pub(crate) fn write_file(folder: &Folder, file: &RunFile) -> Result<PathBuf> {
    let path = folder.path().join(FILE);
    if path.exists() || folder.manifest()?.is_some() {
        let place = folder.path().display();
        return Err(Error::folder(format!("{place}: already holds a run")));
    }
    weal_files::write(&path, Access::Owner, file.to_commented_toml()?.as_bytes())?;
    Ok(path)
}

/// Opens the run of a folder. If the folder has a `run.toml` but no manifest, the manifest is made
/// from it first.
///
/// # Errors
/// When the folder holds neither, the file has a mistake, or a file that it names cannot be read.
pub(crate) fn seal(folder: &Folder) -> Result<Home> {
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
