//! Second names for files, and permissions copied from one to another.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::{Access, write};
use crate::make_parent;
use crate::sync::sync_folder;

/// Makes `path` a second name (a hard link) of `source`. Where that is impossible, as from one disk
/// to another, it writes `bytes`, which the caller has read from `source`. What stood at `path` is
/// replaced.
///
/// # Errors
/// When the operating system refuses both.
pub fn link_or_write(source: &Path, path: &Path, access: Access, bytes: &[u8]) -> Result<()> {
    let parent = make_parent(path)?;
    // A link cannot replace a file.
    let _ = fs::remove_file(path);
    if fs::hard_link(source, path).is_err() {
        return write(path, access, bytes);
    }
    sync_folder(&parent).map_err(Error::at("cannot sync the folder", &parent))
}

/// Gives `path` the permissions of `other`.
///
/// # Errors
/// When the operating system refuses.
pub fn copy_permissions(path: &Path, other: &Path) -> Result<()> {
    let permissions = fs::metadata(other)
        .map_err(Error::at("cannot read the permissions of", other))?
        .permissions();
    fs::set_permissions(path, permissions).map_err(Error::at("cannot set the permissions of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_outlives_the_first_name() {
        let dir = tempfile::tempdir().unwrap();
        let (source, path) = (dir.path().join("source"), dir.path().join("blobs/name"));
        fs::write(&source, b"tokens").unwrap();
        for _ in 0..2 {
            link_or_write(&source, &path, Access::Owner, b"not used").unwrap();
        }
        fs::remove_file(&source).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"tokens");
    }

    #[test]
    fn bytes_are_written_where_no_link_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        link_or_write(&dir.path().join("gone"), &path, Access::Owner, b"tokens").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"tokens");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_copied() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, b"").unwrap();
        fs::write(&b, b"").unwrap();
        fs::set_permissions(&b, fs::Permissions::from_mode(0o640)).unwrap();
        copy_permissions(&a, &b).unwrap();
        let mode = fs::metadata(&a).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640);
    }
}
