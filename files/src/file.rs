//! Files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::sync::sync_folder;
use crate::{TEMPORARY, make_parent};

/// Bytes handed to the operating system at once.
const BUFFER: usize = 1 << 20;

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone (mode 600 on Unix).
    Owner,
    /// Whoever may read the user's other new files (mode 666 less the umask on Unix).
    Usual,
}

/// Writes a file, or replaces it. Missing parent folders are made.
///
/// # Errors
/// When the operating system refuses; the old file is unharmed.
pub fn write(path: &Path, access: Access, bytes: &[u8]) -> Result<()> {
    write_with(path, access, |file| {
        file.write_all(bytes)
            .map_err(Error::at("cannot write", path))
    })
}

/// Writes a file, or replaces it, with what `fill` writes. For content that is never in memory as
/// a whole.
///
/// # Errors
/// What `fill` returns, or what the operating system says; the old file is unharmed.
pub fn write_with<E: From<Error>>(
    path: &Path,
    access: Access,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    let file = temporary(path, access, fill)?;
    file.persist(path)
        .map_err(|error| Error::at("cannot write", path)(error.error))?;
    sync_parent(path).map_err(E::from)
}

/// Writes a new file. Of two processes that create the same file, one succeeds.
///
/// # Errors
/// When the file exists ([`std::io::ErrorKind::AlreadyExists`]), or the operating system refuses.
pub fn create(path: &Path, access: Access, bytes: &[u8]) -> Result<()> {
    let file = temporary(path, access, |file| {
        file.write_all(bytes)
            .map_err(Error::at("cannot write", path))
    })?;
    file.persist_noclobber(path)
        .map_err(|error| Error::at("cannot create", path)(error.error))?;
    sync_parent(path)
}

/// A synced temporary file beside `path`.
fn temporary<E: From<Error>>(
    path: &Path,
    access: Access,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<NamedTempFile, E> {
    let parent = make_parent(path)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    allow(&mut builder, access);
    let file = builder
        .tempfile_in(parent)
        .map_err(Error::at("cannot write", path))?;
    let mut writer = BufWriter::with_capacity(BUFFER, file.as_file());
    fill(&mut writer)?;
    writer
        .flush()
        .and_then(|()| file.as_file().sync_all())
        .map_err(Error::at("cannot write", path))?;
    drop(writer);
    Ok(file)
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = make_parent(path)?;
    sync_folder(&parent).map_err(Error::at("cannot sync the folder", &parent))
}

#[cfg(unix)]
fn allow(builder: &mut tempfile::Builder<'_, '_>, access: Access) {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    let mode = match access {
        Access::Owner => 0o600,
        Access::Usual => 0o666,
    };
    builder.permissions(Permissions::from_mode(mode));
}

#[cfg(not(unix))]
fn allow(_: &mut tempfile::Builder<'_, '_>, _: Access) {}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new folder/model.gguf");
        for text in ["first", "second"] {
            write(&path, Access::Usual, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, Access::Owner, b"old").unwrap();
        let error = write_with(&path, Access::Owner, |file| {
            file.write_all(b"new").unwrap();
            Err(Error::at("cannot compute", &path)(ErrorKind::Other.into()))
        })
        .unwrap_err();
        assert_eq!(error.action, "cannot compute");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn create_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, Access::Owner, b"first").unwrap();
        let error = create(&path, Access::Owner, b"second").unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn access_decides_who_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |access| {
            let path = dir.path().join("file");
            write(&path, access, b"").unwrap();
            fs::metadata(&path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode(Access::Owner), 0o600);
        let reference = dir.path().join("reference");
        fs::write(&reference, b"").unwrap();
        let usual = fs::metadata(&reference).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(Access::Usual), usual);
    }
}
