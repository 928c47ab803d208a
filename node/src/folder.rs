//! A node's data folder: one run, one key, one process.
//!
//! | name | holds |
//! |---|---|
//! | `key` | the secret key: 64 hexadecimal digits, readable by its owner alone |
//! | `settings.toml` | how this machine takes part |
//! | `run.toml` | a run that was written but not started yet |
//! | `genesis` | the right to begin the run of `run.toml`; the first start uses it up |
//! | `manifest.bin` | the manifest, which fixes the run |
//! | `beginning.bin` | the state from which this node began, if it is not the manifest |
//! | `store.redb` | decided rounds, this node's own messages, known peers |
//! | `blobs/` | contributions, data and other byte strings, by hash |
//! | `parts/` | long blobs that are being fetched |
//! | `weights/` | weights at the start of the newest rounds |
//! | `learner/` | error feedback and optimiser moments |
//! | `lock` | held by the process that uses the folder |

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weal_files::Access;
use weal_proto::{ChainSnapshot, Manifest, Message, RunId, SigningKey};

use crate::error::{Error, ErrorKind, Result};
use crate::store::snapshots;

/// More than any export takes.
const EXPORTS_TAKE: Duration = Duration::from_secs(24 * 60 * 60);

/// A data folder. It need not exist yet.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// Keeps every other process out of a folder while it lives.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl Folder {
    /// The folder at this path.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Path of `settings.toml`.
    pub fn settings(&self) -> PathBuf {
        self.root.join("settings.toml")
    }

    /// Path of the database.
    pub fn store(&self) -> PathBuf {
        self.root.join("store.redb")
    }

    /// Path of the folder of blobs.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Path of the folder of blobs that are being fetched.
    pub fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// Path of the count of this month's bytes.
    pub fn traffic(&self) -> PathBuf {
        self.root.join("traffic.json")
    }

    /// Path of the folder of weights.
    pub fn weights(&self) -> PathBuf {
        self.root.join("weights")
    }

    /// Path of the folder of error feedback and moments.
    pub fn learner(&self) -> PathBuf {
        self.root.join("learner")
    }

    fn manifest_path(&self) -> PathBuf {
        self.root.join("manifest.bin")
    }

    fn beginning_path(&self) -> PathBuf {
        self.root.join("beginning.bin")
    }

    fn genesis_path(&self) -> PathBuf {
        self.root.join("genesis")
    }

    /// Notes that the run of this folder's `run.toml` was made here and has not begun.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_genesis(&self) -> Result<()> {
        let text = "This run was made here, and begins here. The first start deletes this file.\n";
        Ok(weal_files::write(
            &self.genesis_path(),
            Access::Owner,
            text.as_bytes(),
        )?)
    }

    /// Whether the run of this folder's `run.toml` was made here and has not begun.
    pub(crate) fn has_genesis(&self) -> bool {
        self.genesis_path().exists()
    }

    /// The right to begin is in the database now, or was not given.
    ///
    /// # Errors
    /// When the file cannot be deleted.
    pub(crate) fn use_up_genesis(&self) -> Result<()> {
        let path = self.genesis_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::storage("cannot delete", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn key_path(&self) -> PathBuf {
        self.root.join("key")
    }

    /// Locks the folder for this process; makes it if it is missing.
    ///
    /// # Errors
    /// When another process has locked it.
    pub(crate) fn lock(&self) -> Result<FolderLock> {
        fs::create_dir_all(&self.root)
            .map_err(Error::storage("cannot make the data folder", &self.root))?;
        let path = self.lock_path();
        let file = File::create(&path).map_err(Error::storage("cannot open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::folder_in_use(&self.root)),
            Err(TryLockError::Error(source)) => Err(Error::storage("cannot lock", &path)(source)),
        }
    }

    /// Whether another process has locked the folder.
    ///
    /// # Errors
    /// When the lock cannot be opened.
    pub(crate) fn is_in_use(&self) -> Result<bool> {
        let path = self.lock_path();
        match File::open(&path) {
            Ok(file) => Ok(matches!(file.try_lock(), Err(TryLockError::WouldBlock))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::storage("cannot open", &path)(error)),
        }
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Removes what processes that were killed left half written. The caller holds the lock.
    pub(crate) fn sweep(&self) {
        // Blobs lie two levels deep.
        let own = [(self.blobs(), 2), (self.weights(), 0), (self.learner(), 0)];
        let of_own = own
            .iter()
            .map(|(folder, depth)| weal_files::sweep(folder, *depth, Duration::ZERO));
        // An export may be writing into the folder itself, without the lock.
        let removed = of_own.sum::<usize>() + weal_files::sweep(&self.root, 0, EXPORTS_TAKE);
        if removed > 0 {
            tracing::info!("removed {removed} files that killed processes left half written");
        }
    }

    /// The node's key. A new key is drawn and stored if the folder has none.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn key(&self) -> Result<SigningKey> {
        let path = self.key_path();
        match fs::read_to_string(&path) {
            Ok(text) => read_key(&path, &text),
            // A node that comes back under another key has lost its weight in the run, and does not
            // know what it signed under the first one.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.has_run() => {
                Err(self.lost_key())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = SigningKey::from_seed(rand::random());
                let text = format!("{}\n", hex::encode(key.seed()));
                weal_files::create(&path, Access::Owner, text.as_bytes())?;
                Ok(key)
            }
            Err(error) => Err(Error::storage("cannot read the key", &path)(error)),
        }
    }

    /// The key if there is one. For commands that may still fail before they need one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn existing_key(&self) -> Result<Option<SigningKey>> {
        if self.key_path().exists() || self.has_run() {
            self.key().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Whether the folder holds a run, perhaps a damaged one.
    pub(crate) fn has_run(&self) -> bool {
        self.manifest_path().exists()
    }

    /// A file of a run that is gone, and must not be begun anew in silence.
    fn lost(&self, path: &Path, what: &str) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            format!(
                "{}: {what} is gone, but the folder holds a run",
                path.display()
            ),
        )
    }

    /// The database is gone, and with it what this node signed.
    pub(crate) fn lost_store(&self) -> Error {
        self.lost(&self.store(), "the record of what this node signed")
            .with_hint(
                "wait until the running round is decided, then move the file `key` to a new folder \
                 and `weal join` the run there; an older copy of the record would do harm",
            )
    }

    fn lost_key(&self) -> Error {
        self.lost(&self.key_path(), "the key").with_hint(
            "put a copy of the key there, or `weal join` the run in a new folder as a new peer",
        )
    }

    /// The manifest of the folder's run; `None` if the folder has no run.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn manifest(&self) -> Result<Option<Manifest>> {
        let path = self.manifest_path();
        match fs::read(&path) {
            Ok(bytes) => Manifest::decode(&bytes)
                .map(Some)
                .map_err(|why| Error::corrupt(&path, why)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::storage("cannot read the manifest", &path)(error)),
        }
    }

    /// The state from which this node began; `None` if it began with the manifest.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub(crate) fn beginning(&self) -> Result<Option<ChainSnapshot>> {
        let path = self.beginning_path();
        match fs::read(&path) {
            Ok(bytes) => match snapshots::decode(&bytes) {
                Some(snapshot) => Ok(Some(snapshot)),
                None => Err(Error::corrupt(&path, "its hash differs")
                    .with_hint("join the run in a new folder")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::storage("cannot read", &path)(error)),
        }
    }

    /// Lets this node begin with a state.
    pub(crate) fn write_beginning(&self, snapshot: &ChainSnapshot) -> Result<()> {
        let bytes = snapshots::encode(snapshot);
        Ok(weal_files::write(
            &self.beginning_path(),
            Access::Owner,
            &bytes,
        )?)
    }

    /// Makes this the folder of a run.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let path = self.manifest_path();
        Ok(weal_files::write(&path, Access::Owner, &manifest.encode())?)
    }

    /// Refuses a folder whose run is not the wanted one.
    ///
    /// # Errors
    /// When the two differ.
    pub fn expect_run(&self, present: RunId, wanted: RunId) -> Result<()> {
        if present == wanted {
            return Ok(());
        }
        Err(Error::folder(format!(
            "{}: holds run {}, not {}",
            self.root.display(),
            present.short(),
            wanted.short()
        )))
    }
}

fn read_key(path: &Path, text: &str) -> Result<SigningKey> {
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| {
        Error::configuration(path.display(), "not a key; expected 64 hexadecimal digits")
    })?;
    Ok(SigningKey::from_seed(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_drawn_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("node"));
        let key = folder.key().unwrap();
        assert_eq!(folder.key().unwrap().peer(), key.peer());
    }

    #[test]
    fn no_new_key_is_drawn_for_a_run_whose_key_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        fs::write(folder.manifest_path(), b"a run").unwrap();
        let error = folder.key().unwrap_err();
        assert_eq!(error.code(), 10);
        assert!(error.to_string().contains("key"), "{error}");
        assert!(folder.existing_key().is_err() && !folder.key_path().exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_is_readable_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        folder.key().unwrap();
        assert_eq!(
            fs::metadata(folder.key_path())
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let _lock = folder.lock().unwrap();
        let error = folder.lock().unwrap_err();
        assert_eq!(error.code(), 9);
        assert!(
            error.hint().is_some_and(|hint| hint.contains("--dir")),
            "{error}"
        );
    }
}
