//! Lists the files of a folder, in the same order on every machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The path itself if it is a file, or the files under a folder, recursively in sorted order.
/// Hidden entries are left out.
pub(crate) fn files_under(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(path, &mut files)?;
    Ok(files)
}

/// Adds the files under `path`. Symlinks to folders are not followed, so the walk ends.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !metadata.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries: io::Result<Vec<_>> = fs::read_dir(path).and_then(Iterator::collect);
    let mut entries = entries.map_err(|error| unreadable(path, error))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let kind = entry
            .file_type()
            .map_err(|error| unreadable(&entry.path(), error))?;
        let link_to_folder = kind.is_symlink() && entry.path().is_dir();
        if !hidden && !link_to_folder {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::DataUnreadable {
        path: path.to_owned(),
        source,
    }
}
