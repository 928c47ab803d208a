//! The learner's state on disk: error feedback and optimiser moments after a round's training.
//!
//! The error feedback is written together with the contribution's blob, before the commitment: a
//! node that is killed continues with exactly the error feedback that belongs to its commitment.
//! Moments may be older, which costs it little. Neither is ever in memory as a whole: the learner
//! writes and reads tensor by tensor.

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
/// Files kept of each kind: the newest, and the one before it in case the newest is damaged.
const KEPT: usize = 2;
/// What names of files with error feedback end with.
const STATE: &str = "state";
/// What names of files with moments end with.
const MOMENTS: &str = "moments";

/// A state on disk that is not damaged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SavedState {
    pub round: RoundNumber,
    /// The contribution that was made in the round.
    pub blob: BlobHash,
    error_feedback: SavedFile,
    /// The newest from this round or before it.
    moments: Option<SavedFile>,
}

/// A file that is not damaged.
#[derive(Debug, Clone, PartialEq)]
struct SavedFile {
    round: RoundNumber,
    blob: BlobHash,
    path: PathBuf,
    /// Bytes between header and check.
    length: u64,
}

impl SavedState {
    /// The error feedback, in the trainer's encoding.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn error_feedback(&self) -> Result<impl Read + use<>> {
        self.error_feedback.open()
    }

    /// The moments, in the trainer's encoding, if there are any.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn moments(&self) -> Result<Option<impl Read + use<>>> {
        self.moments.as_ref().map(SavedFile::open).transpose()
    }
}

impl SavedFile {
    fn open(&self) -> Result<impl Read + use<>> {
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
    /// Rounds from one saving of the moments to the next.
    moments_every: u64,
}

impl LearnerFiles {
    /// The files in this folder. Moments are saved every `moments_every` rounds.
    pub(crate) fn new(folder: PathBuf, moments_every: u64) -> Self {
        Self {
            folder,
            moments_every,
        }
    }

    fn path(&self, round: u64, kind: &str) -> PathBuf {
        self.folder.join(format!("{round:010}.{kind}"))
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
        if self.wants_moments(round) {
            self.write(MOMENTS, round, blob, |file| learner.write_moments(file))?;
        }
        self.write(STATE, round, blob, |file| {
            learner.write_error_feedback(file)
        })
    }

    /// Whether enough rounds have passed since moments were saved.
    fn wants_moments(&self, round: RoundNumber) -> bool {
        let last = self.rounds(MOMENTS).pop();
        let passed = last.and_then(|last| round.0.checked_sub(last));
        passed.is_none_or(|passed| passed == 0 || passed >= self.moments_every)
    }

    fn write(
        &self,
        kind: &str,
        round: RoundNumber,
        blob: BlobHash,
        fill: impl FnOnce(&mut dyn Write) -> weal_trainer::Result<()>,
    ) -> Result<()> {
        let path = self.path(round.0, kind);
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
        let rounds = self.rounds(kind);
        for round in rounds.iter().take(rounds.len().saturating_sub(KEPT)) {
            let path = self.path(*round, kind);
            fs::remove_file(&path).map_err(Error::storage("cannot delete", &path))?;
        }
        Ok(())
    }

    /// Stores an error feedback that is not finite, and moments of another version.
    #[cfg(test)]
    pub(crate) fn save_unusable(&self, round: RoundNumber, parameters: usize) {
        let mut error = vec![1];
        error.extend(f32::NAN.to_le_bytes().repeat(parameters));
        for (kind, bytes) in [(STATE, &error[..]), (MOMENTS, &[1; 9])] {
            let write = |file: &mut dyn Write| {
                let written = file.write_all(bytes);
                written.map_err(weal_trainer::Error::State)
            };
            self.write(kind, round, [7; 32].into(), write).unwrap();
        }
    }

    /// The rounds of which there are files of a kind, the oldest first.
    fn rounds(&self, kind: &str) -> Vec<u64> {
        let Ok(listing) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let round = |path: PathBuf| {
            let has_kind = path.extension()?.to_str()? == kind;
            path.file_stem()?
                .to_str()
                .filter(|_| has_kind)?
                .parse()
                .ok()
        };
        let entries = listing.filter_map(std::result::Result::ok);
        let mut rounds: Vec<u64> = entries.filter_map(|entry| round(entry.path())).collect();
        rounds.sort_unstable();
        rounds
    }

    /// The newest state that is not damaged. `None` if there is none: a learner may start from
    /// zeros.
    pub(crate) fn newest(&self) -> Option<SavedState> {
        let error_feedback = self.newest_of(STATE, u64::MAX)?;
        Some(SavedState {
            round: error_feedback.round,
            blob: error_feedback.blob,
            moments: self.newest_of(MOMENTS, error_feedback.round.0),
            error_feedback,
        })
    }

    /// The newest file of a kind that is not damaged, of this round or before it.
    fn newest_of(&self, kind: &str, most: u64) -> Option<SavedFile> {
        let rounds = self.rounds(kind).into_iter().rev();
        let mut paths = rounds
            .filter(|round| *round <= most)
            .map(|round| self.path(round, kind));
        paths.find_map(|path| match check(&path) {
            Ok(file) => Some(file),
            Err(error) => {
                let path = path.display();
                tracing::warn!("the learner's state in {path} is ignored: {error}");
                None
            }
        })
    }
}

/// Reads a file once to see that it is whole.
fn check(path: &Path) -> io::Result<SavedFile> {
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
    Ok(SavedFile {
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

    fn save(files: &LearnerFiles, kind: &str, round: u64, content: &[u8]) {
        let write = |file: &mut dyn Write| {
            let written = file.write_all(content);
            written.map_err(weal_trainer::Error::State)
        };
        files
            .write(kind, RoundNumber(round), BLOB.into(), write)
            .unwrap();
    }

    fn content(file: Result<impl Read>) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_newest_whole_state_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = LearnerFiles::new(dir.path().join("learner"), 1);
        let long = vec![7; PIECE + 5];
        for round in 0..4 {
            save(&files, STATE, round, &long);
        }
        let newest = files.newest().unwrap();
        assert_eq!((newest.round, newest.blob), (RoundNumber(3), BLOB.into()));
        assert!(content(newest.error_feedback()) == long);
        assert!(newest.moments().unwrap().is_none());
        assert_eq!(files.rounds(STATE), [2, 3]);
    }

    #[test]
    fn moments_come_from_the_same_round_or_before() {
        let dir = tempfile::tempdir().unwrap();
        let files = LearnerFiles::new(dir.path().to_owned(), 3);
        let due: Vec<u64> = (10..18)
            .filter(|round| {
                let due = files.wants_moments(RoundNumber(*round));
                if due {
                    save(&files, MOMENTS, *round, &[*round as u8]);
                }
                due
            })
            .collect();
        assert_eq!(due, [10, 13, 16]);
        // The round in which they were saved is trained again, or one long before.
        assert!(files.wants_moments(RoundNumber(16)) && files.wants_moments(RoundNumber(2)));
        for (round, expected) in [(15, [13]), (16, [16]), (17, [16])] {
            save(&files, STATE, round, b"error feedback");
            let moments = files.newest().unwrap().moments();
            assert_eq!(content(moments.map(Option::unwrap)), expected);
        }
    }

    #[test]
    fn a_damaged_state_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let files = LearnerFiles::new(dir.path().to_owned(), 1);
        let found = || content(files.newest().unwrap().error_feedback());
        for place in [0, 20, 50, 90] {
            save(&files, STATE, 1, b"one");
            save(&files, STATE, 2, b"two, which is longer");
            let mut bytes = fs::read(files.path(2, STATE)).unwrap();
            bytes[place] ^= 1;
            fs::write(files.path(2, STATE), bytes).unwrap();
            assert_eq!(found(), b"one");
            fs::write(files.path(2, STATE), vec![0; place]).unwrap();
            assert_eq!(found(), b"one");
        }
    }

    #[test]
    fn a_failure_to_write_leaves_the_older_state() {
        let dir = tempfile::tempdir().unwrap();
        let files = LearnerFiles::new(dir.path().to_owned(), 1);
        save(&files, STATE, 1, b"one");
        let failed = files.write(STATE, RoundNumber(2), BLOB.into(), |_| {
            let full = io::Error::new(io::ErrorKind::StorageFull, "the disk is full");
            Err(weal_trainer::Error::State(full))
        });
        let failed = failed.unwrap_err();
        assert!(failed.kind() == crate::error::ErrorKind::Storage && failed.is_disk_full());
        assert_eq!(files.newest().unwrap().round, RoundNumber(1));
    }
}
