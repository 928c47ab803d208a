//! What can go wrong for the person who runs a node: what failed, why, and which flag or key mends
//! it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thiserror::Error;

/// Result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command ended without having done what it was asked for. Every variant has its exit code.
#[derive(Debug, Error)]
pub enum Error {
    /// A flag, or a combination of flags, that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Settings or manifest are wrong.
    #[error("{file}: {why}")]
    Configuration {
        /// The file at fault, or what it is called.
        file: String,
        /// What is wrong and what would be accepted.
        why: String,
    },
    /// The training data is unreadable, empty, or not what the manifest names.
    #[error("{0}")]
    Data(String),
    /// The network cannot be used.
    #[error("{0}")]
    Network(String),
    /// A run link is wrong, or nobody behind it answers.
    #[error("{0}")]
    Link(String),
    /// The device asked for is not there, or failed.
    #[error("{0}")]
    Device(String),
    /// The device failed in mid-run, and the settings ask for a restart.
    #[error("{0}; the node ends to be started again, as compute.on_device_loss asks for")]
    DeviceLost(String),
    /// Something cannot be stored or read.
    #[error("{path}: {why}{}", hint(.source))]
    Storage {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted.
        why: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The data folder belongs to something else, or another process has it.
    #[error("{0}")]
    Folder(String),
    /// Stored state is damaged.
    #[error(
        "{path}: damaged: {why}; move the folder away and `weal join` the run again: your key is in the file `key`"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A round could not be computed.
    #[error("{0}")]
    Internal(String),
}

fn hint(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!(
                ": {source}: the disk is full; free some space, or move the folder and point --dir to it"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(": {source}; choose a folder you may write to with --dir")
        }
        _ => format!(": {source}"),
    }
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn storage<'a>(
        why: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self::Storage {
            path: path.to_owned(),
            why,
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, why: impl ToString) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }

    pub(crate) fn configuration(file: impl ToString, why: impl ToString) -> Self {
        Self::Configuration {
            file: file.to_string(),
            why: why.to_string(),
        }
    }

    /// The exit code of the program; documented in `docs/operating.md`.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Internal(_) => 1,
            Self::Usage(_) => 2,
            Self::Configuration { .. } => 3,
            Self::Data(_) => 4,
            Self::Network(_) => 5,
            Self::Link(_) => 6,
            Self::Device(_) => 7,
            Self::Storage { .. } => 8,
            Self::Folder(_) => 9,
            Self::Corrupt { .. } => 10,
            Self::DeviceLost(_) => 11,
        }
    }
}

impl From<&Error> for ExitCode {
    fn from(error: &Error) -> Self {
        Self::from(error.code())
    }
}
