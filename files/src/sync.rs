//! Makes names and folders durable.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

/// Makes renames within a folder durable.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Makes renames within a folder durable, where the file system can: FAT and some network drives
/// refuse.
#[cfg(windows)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    use std::os::windows::fs::OpenOptionsExt;
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
    const ERROR_INVALID_FUNCTION: i32 = 1;
    const ERROR_ACCESS_DENIED: i32 = 5;
    const ERROR_NOT_SUPPORTED: i32 = 50;
    const ERROR_INVALID_PARAMETER: i32 = 87;
    let synced = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(folder)
        .and_then(|folder| folder.sync_all());
    match synced.as_ref().map_err(io::Error::raw_os_error) {
        Err(Some(
            ERROR_INVALID_FUNCTION
            | ERROR_ACCESS_DENIED
            | ERROR_NOT_SUPPORTED
            | ERROR_INVALID_PARAMETER,
        )) => Ok(()),
        _ => synced,
    }
}

/// Makes a folder durable with everything in it.
pub(crate) fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            sync_file(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// Makes the content of a file durable.
pub(crate) fn sync_file(path: &Path) -> io::Result<()> {
    // Windows syncs only files that are open for writing.
    OpenOptions::new()
        .read(true)
        .write(cfg!(windows))
        .open(path)?
        .sync_all()
}
