//! The data folder of a run, opened once: locked, with its manifest, its database and its blobs.
//!
//! [`Folder::enter`] locks a folder. One that holds a run opens as a [`Home`]. One that holds none
//! becomes a home in two steps: [`EmptyFolder::begin`] opens database and blobs for a manifest, and
//! [`Home::settle`] writes the manifest once everything that it names is there. A folder with a
//! manifest is therefore complete, even after a crash.

use std::fs;
use std::sync::Arc;

use weal_coordinator_free::Chain;
use weal_proto::{ChainSnapshot, Manifest, Message, RunId};

use crate::anchor::Anchor;
use crate::error::{Error, Result};
use crate::folder::{Folder, FolderLock};
use crate::store::Store;
use crate::store::blobs::{Blobs, Keep};

/// A run's data folder, in the hands of this process.
pub struct Home {
    pub(crate) folder: Folder,
    pub(crate) lock: FolderLock,
    pub(crate) manifest: Manifest,
    pub(crate) run: RunId,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    /// The state from which this node began; `None` if it began with the manifest.
    pub(crate) beginning: Option<ChainSnapshot>,
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
        self.sweep();
        Ok(match self.manifest()? {
            Some(manifest) => Entered::Run(empty.reopen(manifest)?.into()),
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
        let store = Store::open(&self.folder.store(), manifest.run())?;
        self.home(manifest, store)
    }

    /// Opens database and blobs of a run that is complete.
    fn reopen(self, manifest: Manifest) -> Result<Home> {
        let path = self.folder.store();
        // It was there before the manifest was.
        if fs::metadata(&path).map_or(true, |metadata| metadata.len() == 0) {
            return Err(self.folder.lost_store());
        }
        let store = Store::reopen(&path, manifest.run())?;
        self.home(manifest, store)
    }

    fn home(self, manifest: Manifest, store: Store) -> Result<Home> {
        let run = manifest.run();
        let blobs = Blobs::open(self.folder.blobs(), store.clone())?;
        let beginning = self.folder.beginning()?;
        if let Some(snapshot) = &beginning {
            store.begin_at(snapshot.round)?;
        }
        Ok(Home {
            folder: self.folder,
            lock: self.lock,
            manifest,
            run,
            store,
            blobs,
            beginning,
        })
    }

    /// What is wrong with a folder that should hold a run.
    pub(crate) fn no_run(&self) -> Error {
        no_run(&self.folder)
    }
}

/// What is wrong with a folder that should hold a run.
pub(crate) fn no_run(folder: &Folder) -> Error {
    let place = folder.path().display();
    Error::folder(format!("{place}: this data folder holds no run"))
        .with_hint("start a run with `weal new`, or join one with `weal join <run link>`")
}

impl Home {
    /// Begins with a state instead of the manifest, and passes it on to others.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub(crate) fn begin_at(&mut self, snapshot: ChainSnapshot) -> Result<()> {
        let round = snapshot.round;
        let state = self.blobs.put(&snapshot.encode(), Keep::Pinned, false)?;
        self.store.put_milestone(Anchor { round, state })?;
        self.folder.write_beginning(&snapshot)?;
        self.store.begin_at(round)?;
        self.beginning = Some(snapshot);
        Ok(())
    }

    /// What was decided before the first round that this node knows.
    ///
    /// # Errors
    /// When the state that it began with is not of this run and version.
    pub(crate) fn first_chain(&self) -> Result<Chain> {
        let manifest = Arc::new(self.manifest.clone());
        Ok(match &self.beginning {
            Some(snapshot) => Chain::restore(manifest, snapshot)?,
            None => Chain::genesis(manifest),
        })
    }

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
    use crate::new_run::{NewRun, Right, RunFile};

    /// A run with all the defaults.
    fn new_run(folder: &Path) -> NewRun {
        let (file, founder) = (RunFile::default(), [1; 32].into());
        NewRun::from_file(&file, folder, founder, Path::new("run.toml")).unwrap()
    }

    #[test]
    fn a_folder_holds_a_run_only_once_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let new = new_run(dir.path());
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

    #[test]
    fn a_run_whose_record_is_gone_is_not_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let new = new_run(dir.path());
        drop(new.adopt(folder.enter().unwrap(), Right::Begin).unwrap());
        let whole = fs::read(folder.store()).unwrap();
        let cut = |length: usize| fs::write(folder.store(), &whole[..length]).unwrap();
        for length in [0, 1, 100, 4096, whole.len() / 2, whole.len() - 1] {
            cut(length);
            let error = folder.enter().err().unwrap();
            assert_eq!(error.code(), 10, "cut to {length}: {error:#}");
            assert!(error.to_string().contains("store.redb"), "{error}");
            assert_eq!(
                fs::metadata(folder.store()).unwrap().len(),
                length as u64,
                "nothing is repaired in silence"
            );
        }
        fs::remove_file(folder.store()).unwrap();
        assert_eq!(folder.enter().err().unwrap().code(), 10);
        assert!(!folder.store().exists());
        cut(whole.len());
        assert!(folder.enter().is_ok());
    }
}
