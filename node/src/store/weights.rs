//! Weights on disk: one file of little-endian f32 for each of the newest rounds.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use weal_kernels::{Layout, state};
use weal_proto::{RoundNumber, StateRoot};

use crate::error::{Error, ErrorKind, Result};
use crate::folder::write_atomically;

/// The weights at a round's start.
#[derive(Clone)]
pub struct Weights {
    /// The round.
    pub round: RoundNumber,
    /// Their state root.
    pub root: StateRoot,
    /// The values, flat, in the layout's order.
    pub values: std::sync::Arc<Vec<f32>>,
    /// Blob outlines of the tensors.
    pub outline: std::sync::Arc<state::StateOutline>,
}

impl Weights {
    /// Computes outline and root.
    ///
    /// # Errors
    /// When the values are not of the layout.
    pub fn new(layout: &Layout, round: RoundNumber, values: Vec<f32>) -> Result<Self> {
        let outline = state::outline(layout, &values)
            .map_err(|error| Error::of(ErrorKind::Internal, error))?;
        Self::with_outline(layout, round, values, outline)
    }

    /// Weights whose outline is known.
    ///
    /// # Errors
    /// When the outline is not of the layout.
    pub fn with_outline(
        layout: &Layout,
        round: RoundNumber,
        values: Vec<f32>,
        outline: state::StateOutline,
    ) -> Result<Self> {
        let root = outline
            .root(layout)
            .map_err(|error| Error::of(ErrorKind::Internal, error))?
            .into();
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
pub struct WeightFiles {
    folder: PathBuf,
}

impl WeightFiles {
    /// The files in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where the weights at a round's start are, if they are kept.
    pub fn path(&self, round: RoundNumber) -> PathBuf {
        self.folder.join(format!("{:010}.f32", round.0))
    }

    /// Stores weights durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, weights: &Weights) -> Result<()> {
        write_atomically(&self.path(weights.round), &to_bytes(&weights.values))
    }

    /// Rounds at whose start weights are kept, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn rounds(&self) -> Result<Vec<RoundNumber>> {
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

    /// Reads weights back. What is on disk may be damaged: compare the root with the decided one.
    ///
    /// # Errors
    /// When the file cannot be read, or is not of the layout.
    pub fn load(&self, layout: &Layout, round: RoundNumber) -> Result<Weights> {
        let path = self.path(round);
        let bytes = fs::read(&path).map_err(Error::storage("cannot read weights", &path))?;
        let values = from_bytes(&path, &bytes, layout.parameters())?;
        Weights::new(layout, round, values)
    }

    /// Deletes all but the newest `keep` files.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub fn prune(&self, keep: usize) -> Result<()> {
        let rounds = self.rounds()?;
        let old = rounds.len().saturating_sub(keep.max(2));
        rounds
            .into_iter()
            .take(old)
            .try_for_each(|round| self.remove(round))
    }

    /// Deletes the weights of one round.
    ///
    /// # Errors
    /// When the file cannot be deleted.
    pub fn remove(&self, round: RoundNumber) -> Result<()> {
        let path = self.path(round);
        fs::remove_file(&path).map_err(Error::storage("cannot delete", &path))
    }
}

/// Little-endian bytes of f32 values.
pub fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 4];
    let (slots, _) = bytes.as_chunks_mut::<4>();
    slots
        .par_iter_mut()
        .zip(values)
        .with_min_len(1 << 16)
        .for_each(|(slot, value)| *slot = value.to_le_bytes());
    bytes
}

/// f32 values of little-endian bytes.
///
/// # Errors
/// When there are not `count` of them.
pub fn from_bytes(path: &Path, bytes: &[u8], count: usize) -> Result<Vec<f32>> {
    let (slots, rest) = bytes.as_chunks::<4>();
    if slots.len() != count || !rest.is_empty() {
        return Err(Error::corrupt(
            path,
            format!("{} bytes, {} are expected", bytes.len(), count * 4),
        ));
    }
    Ok(slots
        .par_iter()
        .with_min_len(1 << 16)
        .map(|slot| f32::from_le_bytes(*slot))
        .collect())
}
