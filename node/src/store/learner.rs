//! The learner's state on disk: error feedback and optimiser moments after a round's training.
//!
//! It is written together with the contribution's blob, before the commitment: a node that is
//! killed continues with exactly the error feedback that belongs to its commitment.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use weal_files::Access;
use weal_proto::{BlobHash, RoundNumber};

use crate::error::{Error, Result};
use crate::store::weights::{from_bytes, to_bytes};

const MAGIC: &[u8; 8] = b"WEALLRN1";
const CHECK_BYTES: usize = 32;
/// Values that are turned into bytes at once.
const PIECE: usize = 1 << 20;
/// States kept: the newest, and the one before it in case the newest is damaged.
const KEPT: usize = 2;

/// Error feedback and moments after a round's training.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LearnerState {
    pub round: RoundNumber,
    /// The contribution that was made in the round.
    pub blob: BlobHash,
    /// Error feedback, in the layout's order.
    pub error: Vec<f32>,
    /// The optimiser's moments, in the trainer's encoding.
    pub moments: Vec<u8>,
}

/// The folder of learner states.
#[derive(Debug, Clone)]
pub(crate) struct LearnerFiles {
    folder: PathBuf,
}

impl LearnerFiles {
    /// The files in this folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, round: u64) -> PathBuf {
        self.folder.join(format!("{round:010}.state"))
    }

    /// Stores a state durably and deletes older ones.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub(crate) fn save(&self, state: &LearnerState) -> Result<()> {
        // In pieces, because a second copy of all this would take three times the model's memory.
        let path = self.path(state.round.0);
        weal_files::write_with(&path, Access::Owner, |file| {
            write_state(state, file).map_err(Error::storage("cannot write", &path))
        })?;
        let rounds = self.rounds();
        for round in rounds.iter().take(rounds.len().saturating_sub(KEPT)) {
            let path = self.path(*round);
            fs::remove_file(&path).map_err(Error::storage("cannot delete", &path))?;
        }
        Ok(())
    }

    fn rounds(&self) -> Vec<u64> {
        let Ok(listing) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut rounds: Vec<u64> = listing
            .filter_map(|entry| {
                entry
                    .ok()?
                    .path()
                    .file_name()?
                    .to_str()?
                    .strip_suffix(".state")?
                    .parse()
                    .ok()
            })
            .collect();
        rounds.sort_unstable();
        rounds
    }

    /// The newest state that is not damaged. `None` if there is none: a learner may start from
    /// zeros.
    pub(crate) fn newest(&self, parameters: usize) -> Option<LearnerState> {
        self.rounds()
            .into_iter()
            .rev()
            .find_map(|round| self.load(round, parameters))
    }

    fn load(&self, round: u64, parameters: usize) -> Option<LearnerState> {
        let path = self.path(round);
        let bytes = fs::read(&path).ok()?;
        let (content, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
        if blake3::hash(content).as_bytes() != check {
            tracing::warn!(
                "the learner's state in {} is damaged; ignoring it",
                path.display()
            );
            return None;
        }
        let rest = content.strip_prefix(MAGIC)?;
        let (written, rest) = rest.split_first_chunk::<8>()?;
        let (blob, rest) = rest.split_first_chunk::<32>()?;
        let (error, moments) = rest.split_at_checked(parameters.checked_mul(4)?)?;
        Some(LearnerState {
            round: RoundNumber(u64::from_le_bytes(*written)),
            blob: (*blob).into(),
            error: from_bytes(&path, error, parameters).ok()?,
            moments: moments.to_vec(),
        })
    }
}

fn write_state(state: &LearnerState, file: &mut impl Write) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let mut write = |bytes: &[u8]| {
        hasher.update_rayon(bytes);
        file.write_all(bytes)
    };
    write(MAGIC)?;
    write(&state.round.0.to_le_bytes())?;
    write(state.blob.as_bytes())?;
    for piece in state.error.chunks(PIECE) {
        write(&to_bytes(piece))?;
    }
    write(&state.moments)?;
    file.write_all(hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(round: u64) -> LearnerState {
        LearnerState {
            round: RoundNumber(round),
            blob: [3; 32].into(),
            error: vec![1.0, -2.5, 0.0],
            moments: vec![7; 9],
        }
    }

    #[test]
    fn the_newest_whole_state_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = LearnerFiles::new(dir.path().join("learner"));
        for round in 0..4 {
            files.save(&state(round)).unwrap();
        }
        assert_eq!(files.newest(3), Some(state(3)));
        assert_eq!(files.rounds(), [2, 3]);
    }

    #[test]
    fn a_damaged_state_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let files = LearnerFiles::new(dir.path().to_owned());
        files.save(&state(1)).unwrap();
        files.save(&state(2)).unwrap();
        let mut bytes = fs::read(files.path(2)).unwrap();
        bytes[20] ^= 1;
        fs::write(files.path(2), bytes).unwrap();
        assert_eq!(files.newest(3), Some(state(1)));
    }
}
