//! Temporary files and folders, and how they are removed when the process is told to end.
//!
//! Every one is listed from before it appears until it is renamed or removed.
//! [`remove_temporaries`] removes what is listed and never gives the list back: whoever would make
//! another one, or go on with one that is gone, waits for the end of the process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempDir};

use crate::error::{Error, Result};

/// Attempts at removing a folder into which another thread still writes.
const ATTEMPTS: usize = 100;

/// What is removed of something that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removed {
    /// All of it.
    Whole,
    /// The folder, if it is empty.
    IfEmpty,
}

static LISTED: Mutex<BTreeMap<PathBuf, Removed>> = Mutex::new(BTreeMap::new());

fn list() -> MutexGuard<'static, BTreeMap<PathBuf, Removed>> {
    LISTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every temporary file and folder of this process. Call it right before the process ends:
/// other threads that write files stop for ever.
pub fn remove_temporaries() {
    let listed = list();
    for (path, removed) in listed.iter() {
        match removed {
            Removed::Whole => remove(path),
            Removed::IfEmpty => {
                let _ = fs::remove_dir(path);
            }
        }
    }
    std::mem::forget(listed);
}

fn remove(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    if !metadata.is_dir() {
        let _ = fs::remove_file(path);
        return;
    }
    for _ in 0..ATTEMPTS {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => return,
        }
    }
}

/// Runs `work` so that [`remove_temporaries`] comes before it or after it, never in between.
pub(crate) fn uninterrupted<T>(work: impl FnOnce() -> T) -> T {
    let _list = list();
    work()
}

/// An entry of the list.
#[derive(Debug)]
struct Listed(PathBuf);

impl Listed {
    /// Lists what `make` makes, while nobody else holds the list.
    fn make<T>(
        make: impl FnOnce() -> io::Result<T>,
        path: impl FnOnce(&T) -> &Path,
    ) -> io::Result<(T, Self)> {
        let mut list = list();
        let made = make()?;
        let path = path(&made).to_owned();
        list.insert(path.clone(), Removed::Whole);
        Ok((made, Self(path)))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        list().remove(&self.0);
    }
}

/// A temporary file that is listed. It is removed when it is dropped, unless it was renamed.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    // In this order: what is gone is not listed.
    pub(crate) file: NamedTempFile,
    _listed: Listed,
}

impl TemporaryFile {
    pub(crate) fn new(builder: &tempfile::Builder<'_, '_>, parent: &Path) -> io::Result<Self> {
        let (file, listed) = Listed::make(|| builder.tempfile_in(parent), NamedTempFile::path)?;
        Ok(Self {
            file,
            _listed: listed,
        })
    }

    /// Renames the file, and replaces what is there.
    pub(crate) fn persist(self, path: &Path) -> Result<(), (io::Error, Self)> {
        let listed = self._listed;
        match self.file.persist(path) {
            Ok(_) => Ok(()),
            Err(error) => Err((
                error.error,
                Self {
                    file: error.file,
                    _listed: listed,
                },
            )),
        }
    }

    /// Renames the file, unless something is there.
    pub(crate) fn persist_new(self, path: &Path) -> io::Result<()> {
        let _listed = self._listed;
        match self.file.persist_noclobber(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.error),
        }
    }
}

/// A temporary folder. It is removed when it is dropped, and by [`remove_temporaries`].
#[derive(Debug)]
pub struct TemporaryFolder {
    folder: TempDir,
    _listed: Listed,
}

impl TemporaryFolder {
    /// A folder among the system's temporary ones; its name begins with `prefix`.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn in_system(prefix: &str) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(prefix);
        let parent = std::env::temp_dir();
        Self::new(&builder, &parent).map_err(Error::at("cannot make a folder in", &parent))
    }

    pub(crate) fn new(builder: &tempfile::Builder<'_, '_>, parent: &Path) -> io::Result<Self> {
        let (folder, listed) = Listed::make(|| builder.tempdir_in(parent), TempDir::path)?;
        Ok(Self {
            folder,
            _listed: listed,
        })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A folder for what may be wanted later. When this is dropped, and by [`remove_temporaries`], it
/// is removed if nothing is in it.
#[derive(Debug)]
pub struct FolderIfUsed {
    listed: Listed,
}

impl FolderIfUsed {
    /// Makes the folder, or takes the one that is there.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn make(path: &Path) -> Result<Self> {
        let mut list = list();
        fs::create_dir_all(path).map_err(Error::at("cannot make the folder", path))?;
        list.insert(path.to_owned(), Removed::IfEmpty);
        let listed = Listed(path.to_owned());
        Ok(Self { listed })
    }
}

impl Drop for FolderIfUsed {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.listed.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_listed_until_it_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let file = TemporaryFile::new(&tempfile::Builder::new(), dir.path()).unwrap();
        let path = file.file.path().to_owned();
        assert!(list().contains_key(&path));
        file.persist(&dir.path().join("kept")).unwrap();
        assert!(!list().contains_key(&path));
        let folder = TemporaryFolder::new(&tempfile::Builder::new(), dir.path()).unwrap();
        let path = folder.path().to_owned();
        assert!(list().contains_key(&path));
        drop(folder);
        assert!(!list().contains_key(&path) && !path.exists());
    }

    #[test]
    fn a_folder_stays_if_it_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let (used, unused) = (dir.path().join("used"), dir.path().join("unused"));
        for path in [&used, &unused] {
            let _folder = FolderIfUsed::make(path).unwrap();
            if path == &used {
                fs::write(path.join("part"), b"").unwrap();
            }
        }
        assert!(used.exists() && !unused.exists());
        assert!(!list().contains_key(&used));
    }

    #[test]
    fn a_folder_is_removed_with_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("half");
        fs::create_dir_all(folder.join("shards")).unwrap();
        fs::write(folder.join("shards/0"), b"tokens").unwrap();
        remove(&folder);
        assert!(!folder.exists());
    }
}
