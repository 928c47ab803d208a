//! A node's data folder: one run, one key, one process.
//!
//! | name | holds |
//! |---|---|
//! | `key` | the secret key, 64 hexadecimal digits, readable by its owner alone |
//! | `settings.toml` | how this machine takes part |
//! | `manifest.bin` | what fixes the run |
//! | `store.redb` | what was decided, own messages, known peers |
//! | `blobs/` | contributions, data and other byte strings, by hash |
//! | `weights/` | weights at the start of the newest rounds |
//! | `learner/` | error feedback and optimiser moments |
//! | `lock` | held by the process that uses the folder |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use weal_proto::{Manifest, Message, RunId, SigningKey};

use crate::error::{Error, Result};

/// A data folder. It may not exist yet.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// Keeps every other process out of a folder while it lives.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl Folder {
    /// The folder at this path.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where the settings are.
    pub fn settings(&self) -> PathBuf {
        self.root.join("settings.toml")
    }

    /// Where the decided rounds are.
    pub fn store(&self) -> PathBuf {
        self.root.join("store.redb")
    }

    /// Where blobs are.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where weights are.
    pub fn weights(&self) -> PathBuf {
        self.root.join("weights")
    }

    /// Where the learner's own state is.
    pub fn learner(&self) -> PathBuf {
        self.root.join("learner")
    }

    fn manifest_path(&self) -> PathBuf {
        self.root.join("manifest.bin")
    }

    fn key_path(&self) -> PathBuf {
        self.root.join("key")
    }

    /// Makes the folder, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.root)
            .map_err(Error::storage("cannot make the data folder", &self.root))
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// When another process has it.
    pub fn lock(&self) -> Result<FolderLock> {
        self.create()?;
        let path = self.root.join("lock");
        let file = File::create(&path).map_err(Error::storage("cannot open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::folder(format!(
                "{}: another weal process uses this data folder; stop it, or choose another folder with --dir",
                self.root.display()
            ))),
            Err(TryLockError::Error(source)) => Err(Error::storage("cannot lock", &path)(source)),
        }
    }

    /// The key of this folder; a new one is drawn where there is none.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn key(&self) -> Result<SigningKey> {
        let path = self.key_path();
        match fs::read_to_string(&path) {
            Ok(text) => read_key(&path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = SigningKey::from_seed(rand::random());
                self.create()?;
                write_secret(&path, &hex::encode(key.seed()))?;
                Ok(key)
            }
            Err(error) => Err(Error::storage("cannot read the key", &path)(error)),
        }
    }

    /// The run's manifest, if the folder has one.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
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

    /// Makes this the folder of a run.
    ///
    /// # Errors
    /// When it is another run's folder, or cannot be written.
    pub fn adopt(&self, manifest: &Manifest) -> Result<()> {
        match self.manifest()? {
            Some(present) => self.expect_run(present.run(), manifest.run()),
            None => {
                self.create()?;
                write_atomically(&self.manifest_path(), &manifest.encode())
            }
        }
    }

    /// Refuses a folder that belongs to another run.
    ///
    /// # Errors
    /// When the two runs differ.
    pub fn expect_run(&self, present: RunId, wanted: RunId) -> Result<()> {
        if present == wanted {
            return Ok(());
        }
        Err(Error::folder(format!(
            "{}: holds run {}, not {}; choose another folder with --dir",
            self.root.display(),
            present.short(),
            wanted.short()
        )))
    }
}

fn read_key(path: &Path, text: &str) -> Result<SigningKey> {
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| {
        Error::configuration(
            path.display(),
            "not a key: 64 hexadecimal digits are expected",
        )
    })?;
    Ok(SigningKey::from_seed(seed))
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| {
        writeln!(file, "{text}")?;
        file.sync_all()
    });
    written.map_err(Error::storage("cannot write the key", path))
}

/// Writes a file so that a crash leaves either the old content or the new one.
///
/// # Errors
/// When it cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically_with(path, |file| file.write_all(bytes))
}

/// The same for what is written piece by piece, and never held as a whole.
///
/// # Errors
/// When it cannot be written.
pub fn write_atomically_with(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::storage("cannot make the folder", folder))?;
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        content(&mut file)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The rename itself is durable only once the folder is.
        File::open(folder)?.sync_all()
    };
    write().map_err(Error::storage("cannot write", path))
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
        assert!(error.to_string().contains("--dir"), "{error}");
    }
}
