//! Weights on disk: one file of little-endian f32 values for each of the newest rounds.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use weal_coordinator_free::host::retention::{self, KeptWeights};
use weal_files::Access;
pub use weal_kernels::state::to_bytes;
use weal_kernels::{Layout, state};
use weal_proto::{RoundNumber, StateRoot};
use weal_trainer::ModelWeights;

use crate::error::{Error, Result};

/// Values written at once.
const PIECE: usize = 1 << 20;

/// Whether weights survive a power cut once they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// They do.
    Synced,
    /// They may be damaged then. For weights whose state root is decided, so that the damage is
    /// noticed, and that older ones lead to.
    Unsynced,
}

impl Durability {
    /// Writes a file, or replaces it, with what `fill` writes.
    fn write(
        self,
        path: &Path,
        fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Synced => weal_files::write_with(path, Access::Owner, fill),
            Self::Unsynced => weal_files::write_unsynced_with(path, Access::Owner, fill),
        }
    }
}

/// Writes a part of some weights, as little-endian bytes, at its place among all of them. Threads
/// may call it at once.
pub(crate) type WritePart<'a> = &'a (dyn Fn(u64, &[u8]) -> Result<()> + Sync);

/// Names the weights at a round's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WeightsId {
    /// The round that starts from them.
    pub round: RoundNumber,
    pub root: StateRoot,
}

/// The weights at a round's start. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Weights {
    /// The round that starts from them.
    pub round: RoundNumber,
    pub root: StateRoot,
    /// The values, flat, in the layout's order; mostly in the file.
    pub values: Arc<ModelWeights>,
    /// Outlines of the tensors as blobs.
    pub outline: Arc<state::StateOutline>,
}

impl Weights {
    /// Weights with these values.
    ///
    /// # Errors
    /// When there are more or fewer values than the layout has.
    pub(crate) fn new(
        layout: &Layout,
        round: RoundNumber,
        values: impl Into<ModelWeights>,
    ) -> Result<Self> {
        let values = values.into();
        let outline = state::outline(layout, &values)?;
        Self::with_outline(layout, round, values, outline)
    }

    /// Weights whose outline is known already.
    ///
    /// # Errors
    /// When the outline does not fit the layout.
    pub(super) fn with_outline(
        layout: &Layout,
        round: RoundNumber,
        values: ModelWeights,
        outline: state::StateOutline,
    ) -> Result<Self> {
        let root = outline.root(layout)?.into();
        Ok(Self {
            round,
            root,
            values: values.into(),
            outline: outline.into(),
        })
    }
}

/// The folder of weights.
#[derive(Debug, Clone)]
pub(crate) struct WeightFiles {
    folder: PathBuf,
}

impl WeightFiles {
    /// The files in this folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Path of the weights at a round's start.
    pub(crate) fn path(&self, round: RoundNumber) -> PathBuf {
        self.folder.join(format!("{:010}.f32", round.0))
    }

    /// The folder that holds the files.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Path of the state root that the weights had when they were written.
    fn root_path(&self, round: RoundNumber) -> PathBuf {
        self.folder.join(format!("{:010}.root", round.0))
    }

    /// The state root that the weights had when they were written, if it was noted.
    pub(crate) fn written_root(&self, round: RoundNumber) -> Option<StateRoot> {
        let text = fs::read_to_string(self.root_path(round)).ok()?;
        text.trim().parse().ok()
    }

    /// Stores weights durably. Those that are returned are in the file, and not in memory.
    ///
    /// # Errors
    /// When the disk cannot be written, or there are more or fewer values than the layout has.
    pub(crate) fn store(
        &self,
        layout: &Layout,
        round: RoundNumber,
        values: &[f32],
    ) -> Result<Weights> {
        self.write(layout, round, Durability::Synced, |write| {
            let outline = state::outline(layout, values)?;
            let mut pieces = (0_u64..).zip(values.chunks(PIECE));
            pieces.try_for_each(|(number, piece)| {
                write(number * PIECE as u64 * 4, &to_bytes(piece))
            })?;
            Ok(outline)
        })
    }

    /// Stores the weights that `fill` writes, a few at a time, and their state root before them.
    /// `fill` returns their outline.
    ///
    /// # Errors
    /// What `fill` returns, and when the disk cannot be written.
    pub(crate) fn write(
        &self,
        layout: &Layout,
        round: RoundNumber,
        durability: Durability,
        fill: impl FnOnce(WritePart<'_>) -> Result<state::StateOutline>,
    ) -> Result<Weights> {
        let path = self.path(round);
        let mut outline = None;
        // The old file, if there is one, is replaced and not written to: somebody may map it.
        durability.write(&path, |file| {
            let file = Mutex::new(*file.get_ref());
            let filled = fill(&|place, bytes| {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let written = file.seek(SeekFrom::Start(place));
                let written = written.and_then(|_| file.write_all(bytes));
                written.map_err(Error::storage("cannot write", &path))
            })?;
            self.note_root(round, filled.root(layout)?.into(), durability)?;
            outline = Some(filled);
            Ok(())
        })?;
        let values = self.map(layout, round)?;
        match outline {
            Some(outline) => Weights::with_outline(layout, round, values, outline),
            None => Weights::new(layout, round, values),
        }
    }

    /// Stores weights that lie in another file already, in the same format: as a second name of
    /// that file, or as a copy where the file system gives none. No file is ever changed in place.
    ///
    /// # Errors
    /// When the disk cannot be written, or there are more or fewer values than the layout has.
    pub(crate) fn adopt(
        &self,
        layout: &Layout,
        round: RoundNumber,
        (file, values): (&Path, &ModelWeights),
    ) -> Result<Weights> {
        let outline = state::outline(layout, values)?;
        values.release();
        self.note_root(round, outline.root(layout)?.into(), Durability::Synced)?;
        let path = self.path(round);
        if let Err(error) = link(file, &path) {
            tracing::debug!("{} is copied: {error:#}", file.display());
            return self.store(layout, round, values);
        }
        Weights::with_outline(layout, round, self.map(layout, round)?, outline)
    }

    /// Notes the state root of the weights that are written next.
    pub(super) fn note_root(
        &self,
        round: RoundNumber,
        root: StateRoot,
        durability: Durability,
    ) -> Result<()> {
        let path = self.root_path(round);
        durability.write(&path, |file| {
            let written = writeln!(file, "{root}");
            written.map_err(Error::storage("cannot write", &path))
        })
    }

    fn map(&self, layout: &Layout, round: RoundNumber) -> Result<ModelWeights> {
        let path = self.path(round);
        let file = File::open(&path).map_err(Error::storage("cannot read weights", &path))?;
        match ModelWeights::in_file(&file, layout.parameters()) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Error::corrupt(&path, error.to_string()))
            }
            mapped => mapped.map_err(Error::storage("cannot read weights", &path)),
        }
    }

    /// Rounds whose starting weights are on disk, the oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn rounds(&self) -> Result<Vec<RoundNumber>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let listing =
            fs::read_dir(&self.folder).map_err(Error::storage("cannot list", &self.folder))?;
        let mut rounds: Vec<_> = listing
            .filter_map(|entry| {
                entry
                    .ok()?
                    .path()
                    .file_name()?
                    .to_str()?
                    .strip_suffix(".f32")?
                    .parse()
                    .ok()
            })
            .map(RoundNumber)
            .collect();
        rounds.sort_unstable();
        Ok(rounds)
    }

    /// Reads weights. The file may be damaged: compare the root with the decided one.
    ///
    /// # Errors
    /// When the file cannot be read, or has more or fewer values than the layout.
    pub(crate) fn load(&self, layout: &Layout, round: RoundNumber) -> Result<Weights> {
        let weights = Weights::new(layout, round, self.map(layout, round)?)?;
        weights.values.release();
        Ok(weights)
    }

    /// Deletes the files that are not to be kept, but never those of `spared`. Returns the rounds
    /// of those that are left.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub(crate) fn prune(
        &self,
        keep: KeptWeights,
        spared: Option<RoundNumber>,
    ) -> Result<Vec<RoundNumber>> {
        let mut rounds = self.rounds()?;
        let mut surplus = retention::surplus_weights(&rounds, keep);
        surplus.retain(|round| Some(*round) != spared);
        for round in &surplus {
            match self.remove(*round) {
                // Windows keeps a file that is still read. The next time will do.
                Err(error) if cfg!(windows) => tracing::debug!("{error:#}"),
                removed => removed?,
            }
        }
        rounds.retain(|round| !surplus.contains(round));
        Ok(rounds)
    }

    /// Makes weights durable that may not be.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub(crate) fn sync(&self, round: RoundNumber) -> Result<()> {
        Ok(weal_files::sync(&self.path(round))?)
    }

    /// Deletes the weights of one round.
    ///
    /// # Errors
    /// When the file cannot be deleted.
    pub(crate) fn remove(&self, round: RoundNumber) -> Result<()> {
        let path = self.path(round);
        fs::remove_file(&path).map_err(Error::storage("cannot delete", &path))?;
        // What is left of it harms nobody.
        let _ = fs::remove_file(self.root_path(round));
        Ok(())
    }
}

/// Makes `path` a second name of a file, durably. What stood there is replaced.
fn link(file: &Path, path: &Path) -> Result<()> {
    // A name that is swept after a crash.
    let new = path.with_file_name(".weal-link");
    let _ = fs::remove_file(&new);
    let _ = fs::remove_file(path);
    fs::hard_link(file, &new).map_err(Error::storage("cannot link", file))?;
    Ok(weal_files::publish(&new, path)?)
}
