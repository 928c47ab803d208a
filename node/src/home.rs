//! The data folder of a run, opened once: locked, with its manifest, its database and its blobs.
//!
//! [`Folder::enter`] locks a folder. One that holds a run opens as a [`Home`]. One that holds none
//! becomes a home in two steps: [`EmptyFolder::begin`] opens database and blobs for a manifest, and
//! [`Home::settle`] writes the manifest once everything that it names is there. A folder with a
//! manifest is therefore complete, even after a crash.

use weal_proto::{Manifest, RunId};

use crate::error::{Error, Result};
use crate::folder::{Folder, FolderLock};
use crate::store::Store;
use crate::store::blobs::Blobs;

/// A run's data folder, in the hands of this process.
pub struct Home {
    pub(crate) folder: Folder,
    pub(crate) lock: FolderLock,
    pub(crate) manifest: Manifest,
    pub(crate) run: RunId,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
}

/// A locked folder without a run.
#[derive(Debug)]
pub struct EmptyFolder {
    folder: Folder,
    lock: FolderLock,
}

/// A locked folder.
pub enum Entered {
    /// It holds a run.
    Run(Box<Home>),
    /// It holds no run.
    Empty(EmptyFolder),
}

impl Folder {
    /// Locks the folder and opens the run in it, if there is one.
    ///
    /// # Errors
    /// When another process has locked the folder, or a file in it cannot be used.
    pub fn enter(&self) -> Result<Entered> {
        let empty = EmptyFolder {
            folder: self.clone(),
            lock: self.lock()?,
        };
        Ok(match self.manifest()? {
            Some(manifest) => Entered::Run(empty.begin(manifest)?.into()),
            None => Entered::Empty(empty),
        })
    }
}

impl Entered {
    /// The run of the folder.
    ///
    /// # Errors
    /// When the folder holds none.
    pub fn expect_home(self) -> Result<Home> {
        match self {
            Self::Run(home) => Ok(*home),
            Self::Empty(empty) => Err(empty.no_run()),
        }
    }
}

impl EmptyFolder {
    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Opens database and blobs for a run that is not complete here yet.
    ///
    /// # Errors
    /// When they cannot be opened, or belong to another run.
    pub fn begin(self, manifest: Manifest) -> Result<Home> {
        let run = manifest.run();
        let store = Store::open(&self.folder.store(), run)?;
        let blobs = Blobs::open(self.folder.blobs(), store.clone())?;
        Ok(Home {
            folder: self.folder,
            lock: self.lock,
            manifest,
            run,
            store,
            blobs,
        })
    }

    /// What is wrong with a folder that should hold a run.
    pub(crate) fn no_run(&self) -> Error {
        let place = self.folder.path().display();
        Error::folder(format!("{place}: this data folder holds no run"))
            .with_hint("start a run with `weal new`, or join one with `weal join <run link>`")
    }
}

impl Home {
    /// Writes the manifest: from now on the folder holds this run.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn settle(&self) -> Result<()> {
        self.folder.write_manifest(&self.manifest)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::new_run::{NewRun, RunFile};

    #[test]
    fn a_folder_holds_a_run_only_once_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let new = NewRun::from_file(
            &RunFile::default(),
            dir.path(),
            [1; 32].into(),
            Path::new("run.toml"),
        )
        .unwrap();
        let begin = || match folder.enter().unwrap() {
            Entered::Empty(empty) => empty.begin(new.manifest.clone()).unwrap(),
            Entered::Run(_) => panic!("nothing is settled"),
        };
        drop(begin());
        begin().settle().unwrap();
        let home = folder.enter().unwrap().expect_home().unwrap();
        assert_eq!(home.run, new.manifest.run());
        assert_eq!(folder.enter().err().unwrap().code(), 9, "it is locked");
    }
}
