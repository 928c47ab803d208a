//! Writes files and folders atomically and durably.
//!
//! *Atomic*: the content is written under a temporary name beside its destination and renamed at
//! the end. After a crash the old content is there or the new one, never a part. *Durable*: once a
//! function returns, the content survives a power cut. Before the rename the content is synced;
//! after it, the folder that holds the name. [`write_unsynced_with`] alone does without.
//!
//! Temporary names begin with `.weal-`. [`remove_temporaries`] removes them when a process is told
//! to end; what one that is killed leaves behind is removed by [`sweep`].

#![forbid(unsafe_code)]

mod error;
mod file;
mod folder;
mod link;
mod sweep;
mod sync;
mod temporary;

use std::path::{Path, PathBuf};

pub use error::{Error, Result};
pub use file::{Access, can_write, create, publish, sync, write, write_unsynced_with, write_with};
pub use folder::{can_create_folder, create_folder};
pub use link::{copy_permissions, link_or_write};
pub use sweep::sweep;
pub use temporary::{FolderIfUsed, TemporaryFolder, remove_temporaries};

/// How the names of temporary files and folders begin.
const TEMPORARY: &str = ".weal-";

/// The folder that holds `path`; made if it is missing.
fn make_parent(path: &Path) -> Result<PathBuf> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(Error::at("cannot make the folder", parent))?;
    Ok(parent.to_owned())
}
