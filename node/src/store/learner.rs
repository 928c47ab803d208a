//! The learner's state on disk: error feedback and optimiser moments after a round's training.
//!
//! It is written together with the contribution's blob, before the commitment: a node that is
//! killed continues with exactly the error feedback that belongs to its commitment. It is never in
//! memory as a whole: the learner writes and reads it tensor by tensor.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use weal_files::Access;
use weal_proto::{BlobHash, RoundNumber};
use weal_trainer::Learner;

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"WEALLRN2";
/// Magic, round and contribution.
const HEADER_BYTES: u64 = 48;
const CHECK_BYTES: u64 = 32;
/// Bytes that are read or hashed at once.
const PIECE: usize = 1 << 20;
/// States kept: the newest, and the one before it in case the newest is damaged.
const KEPT: usize = 2;

/// A state on disk that is not damaged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SavedState {
    pub round: RoundNumber,
    /// The contribution that was made in the round.
    pub blob: BlobHash,
    path: PathBuf,
    /// Bytes of error feedback and moments.
    length: u64,
}

impl SavedState {
    /// The error feedback and the moments, in the trainer's encoding.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn open(&self) -> Result<impl Read + use<>> {
        let open = || -> io::Result<_> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(HEADER_BYTES))?;
            Ok(BufReader::with_capacity(PIECE, file.take(self.length)))
        };
        open().map_err(Error::storage("cannot read", &self.path))
    }
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

    /// Stores a learner's state after a round durably, and deletes older ones.
    ///
    /// # Errors
    /// When the device fails, or the disk cannot be written.
    pub(crate) fn save(
        &self,
        round: RoundNumber,
        blob: BlobHash,
        learner: &mut Learner,
    ) -> Result<()> {
        self.save_with(round, blob, |file| {
            learner.write_error_feedback(file)?;
            learner.write_moments(file)
        })
    }

    fn save_with(
        &self,
        round: RoundNumber,
        blob: BlobHash,
        fill: impl FnOnce(&mut dyn Write) -> weal_trainer::Result<()>,
    ) -> Result<()> {
        let path = self.path(round.0);
        weal_files::write_with(&path, Access::Owner, |file| {
            let failed = Error::storage("cannot write", &path);
            let mut hashed = Hashed {
                file,
                hasher: blake3::Hasher::new(),
            };
            match hashed.write_state(round, blob, fill) {
                Err(weal_trainer::Error::State(error)) => Err(failed(error)),
                written => Ok(written?),
            }
        })?;
        let rounds = self.rounds();
        for round in rounds.iter().take(rounds.len().saturating_sub(KEPT)) {
            let path = self.path(*round);
            fs::remove_file(&path).map_err(Error::storage("cannot delete", &path))?;
        }
        Ok(())
    }

    /// Stores an error feedback that is not finite, and moments of another version.
    #[cfg(test)]
    pub(crate) fn save_unusable(&self, round: RoundNumber, parameters: usize) {
        let bytes = [
            &[1],
            &f32::NAN.to_le_bytes().repeat(parameters)[..],
            &[1; 9],
        ]
        .concat();
        let write = |file: &mut dyn Write| {
            let written = file.write_all(&bytes);
            written.map_err(weal_trainer::Error::State)
        };
        self.save_with(round, [7; 32].into(), write).unwrap();
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
    pub(crate) fn newest(&self) -> Option<SavedState> {
        let newest_first = self.rounds().into_iter().rev();
        newest_first
            .map(|round| self.path(round))
            .find_map(|path| match check(&path) {
                Ok(state) => Some(state),
                Err(error) => {
                    let path = path.display();
                    tracing::warn!("the learner's state in {path} is ignored: {error}");
                    None
                }
            })
    }
}

/// Reads a state once to see that it is whole.
fn check(path: &Path) -> io::Result<SavedState> {
    let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let length = length.checked_sub(HEADER_BYTES + CHECK_BYTES);
    let length = length.ok_or_else(|| damaged("it is too short"))?;
    let (mut magic, mut round, mut blob) = ([0; 8], [0; 8], [0; 32]);
    let mut hasher = blake3::Hasher::new();
    for part in [&mut magic[..], &mut round, &mut blob] {
        file.read_exact(part)?;
        hasher.update(part);
    }
    if magic != *MAGIC {
        return Err(damaged("another version wrote it"));
    }
    let (mut left, mut piece) = (length, vec![0; PIECE]);
    while left > 0 {
        let count = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        file.read_exact(&mut piece[..count])?;
        hasher.update_rayon(&piece[..count]);
        left -= count as u64;
    }
    let mut written = [0; CHECK_BYTES as usize];
    file.read_exact(&mut written)?;
    if hasher.finalize() != blake3::Hash::from_bytes(written) {
        return Err(damaged("it is damaged"));
    }
    Ok(SavedState {
        round: RoundNumber(u64::from_le_bytes(round)),
        blob: blob.into(),
        path: path.to_owned(),
        length,
    })
}

/// A file that is hashed while it is written.
struct Hashed<W> {
    file: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Hashed<W> {
    fn write_state(
        &mut self,
        round: RoundNumber,
        blob: BlobHash,
        fill: impl FnOnce(&mut dyn Write) -> weal_trainer::Result<()>,
    ) -> weal_trainer::Result<()> {
        let mut header = |bytes: &[u8]| self.write_all(bytes).map_err(weal_trainer::Error::State);
        header(MAGIC)?;
        header(&round.0.to_le_bytes())?;
        header(blob.as_bytes())?;
        fill(self)?;
        let check = self.hasher.finalize();
        let written = self.file.write_all(check.as_bytes());
        written.map_err(weal_trainer::Error::State)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update_rayon(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: [u8; 32] = [3; 32];

    fn save(files: &LearnerFiles, round: u64, content: &[u8]) {
        let write = |file: &mut dyn Write| {
            let written = file.write_all(content);
            written.map_err(weal_trainer::Error::State)
        };
        files
            .save_with(RoundNumber(round), BLOB.into(), write)
            .unwrap();
    }

    fn content(state: &SavedState) -> Vec<u8> {
        let mut bytes = Vec::new();
        state.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_newest_whole_state_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = LearnerFiles::new(dir.path().join("learner"));
        let long = vec![7; PIECE + 5];
        for round in 0..4 {
            save(&files, round, &long);
        }
        let newest = files.newest().unwrap();
        assert_eq!((newest.round, newest.blob), (RoundNumber(3), BLOB.into()));
        assert!(content(&newest) == long);
        assert_eq!(files.rounds(), [2, 3]);
    }

    #[test]
    fn a_damaged_state_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let files = LearnerFiles::new(dir.path().to_owned());
        for place in [0, 20, 50, 90] {
            save(&files, 1, b"one");
            save(&files, 2, b"two, which is longer");
            let mut bytes = fs::read(files.path(2)).unwrap();
            bytes[place] ^= 1;
            fs::write(files.path(2), bytes).unwrap();
            assert_eq!(content(&files.newest().unwrap()), b"one");
            fs::write(files.path(2), vec![0; place]).unwrap();
            assert_eq!(content(&files.newest().unwrap()), b"one");
        }
    }

    #[test]
    fn a_failure_to_write_leaves_the_older_state() {
        let dir = tempfile::tempdir().unwrap();
        let files = LearnerFiles::new(dir.path().to_owned());
        save(&files, 1, b"one");
        let failed = files.save_with(RoundNumber(2), BLOB.into(), |_| {
            let full = io::Error::new(io::ErrorKind::StorageFull, "the disk is full");
            Err(weal_trainer::Error::State(full))
        });
        assert_eq!(failed.unwrap_err().kind(), crate::error::ErrorKind::Storage);
        assert_eq!(files.newest().unwrap().round, RoundNumber(1));
    }
}
