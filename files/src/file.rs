//! Files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Seek, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::sync::{sync_file, sync_folder};
use crate::temporary::TemporaryFile;
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
/// A file that cannot be replaced, because it is mounted there or its folder cannot be written to,
/// is overwritten in place, which is not atomic. That is for [`Access::Usual`] alone.
///
/// # Errors
/// What `fill` returns, or what the operating system says; the old file is unharmed.
pub fn write_with<E: From<Error>>(
    path: &Path,
    access: Access,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error| E::from(Error::at("cannot write", path)(error));
    let file = match new_temporary(path, access)? {
        Ok(file) => file,
        Err(error) if access == Access::Usual && is_mounted(&error) && path.is_file() => {
            let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            file.set_len(0).map_err(failed)?;
            return fill_and_sync(&file, path, fill);
        }
        Err(error) => return Err(failed(error)),
    };
    fill_and_sync(file.file.as_file(), path, fill)?;
    match file.persist(path) {
        Ok(()) => sync_parent(path).map_err(E::from),
        Err((error, file)) if access == Access::Usual && is_mounted(&error) => {
            overwrite(file, path).map_err(failed)
        }
        Err((error, _)) => Err(failed(error)),
    }
}

/// Writes a file, or replaces it, like [`write_with`], but leaves it to the system when the content
/// reaches the disk: a power cut may leave a file there that holds anything. For content that can
/// be verified, and made again.
///
/// # Errors
/// What `fill` returns, or what the operating system says; the old file is unharmed.
pub fn write_unsynced_with<E: From<Error>>(
    path: &Path,
    access: Access,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error| E::from(Error::at("cannot write", path)(error));
    let file = new_temporary(path, access)?.map_err(failed)?;
    fill_and_flush(file.file.as_file(), path, fill)?;
    file.persist(path).map_err(|(error, _)| failed(error))
}

/// Checks that [`write_with`] could write to `path`. For callers that need long until they know
/// what to write.
///
/// # Errors
/// As for [`write_with`].
pub fn can_write(path: &Path, access: Access) -> Result<()> {
    if path.is_dir() {
        return Err(Error::at("cannot write", path)(
            ErrorKind::IsADirectory.into(),
        ));
    }
    match new_temporary(path, access)? {
        Err(error) if access == Access::Usual && is_mounted(&error) && path.is_file() => {
            OpenOptions::new().write(true).open(path).map(drop)
        }
        made => made.map(drop),
    }
    .map_err(Error::at("cannot write", path))
}

/// Whether the system refuses to replace a file that it might let us overwrite.
fn is_mounted(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
    )
}

fn overwrite(mut from: TemporaryFile, path: &Path) -> io::Result<()> {
    let mut to = OpenOptions::new().write(true).open(path)?;
    to.set_len(0)?;
    from.file.rewind()?;
    io::copy(from.file.as_file_mut(), &mut to)?;
    to.sync_all()
}

/// Writes a new file. Of two processes that create the same file, one succeeds.
///
/// # Errors
/// When the file exists ([`std::io::ErrorKind::AlreadyExists`]), or the operating system refuses.
pub fn create(path: &Path, access: Access, bytes: &[u8]) -> Result<()> {
    let file = new_temporary(path, access)?.map_err(Error::at("cannot write", path))?;
    fill_and_sync(file.file.as_file(), path, |file| {
        file.write_all(bytes)
            .map_err(Error::at("cannot write", path))
    })?;
    file.persist_new(path)
        .map_err(Error::at("cannot create", path))?;
    sync_parent(path)
}

/// Renames a file that was written bit by bit, and replaces what is at `path`. Afterwards the
/// content and the new name survive a power cut.
///
/// # Errors
/// When the operating system refuses.
pub fn publish(file: &Path, path: &Path) -> Result<()> {
    sync_file(file).map_err(Error::at("cannot sync", file))?;
    fs::rename(file, path).map_err(Error::at("cannot rename to", path))?;
    sync_parent(path)
}

/// Makes a file and its name durable that [`write_unsynced_with`] wrote. It takes no time if they
/// are.
///
/// # Errors
/// When the operating system refuses.
pub fn sync(path: &Path) -> Result<()> {
    sync_file(path).map_err(Error::at("cannot sync", path))?;
    sync_parent(path)
}

/// A temporary file beside `path`, or why the system refuses to make one.
fn new_temporary(path: &Path, access: Access) -> Result<io::Result<TemporaryFile>> {
    let parent = make_parent(path)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    allow(&mut builder, access);
    Ok(TemporaryFile::new(&builder, &parent))
}

fn fill_and_sync<E: From<Error>>(
    file: &File,
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    fill_and_flush(file, path, fill)?;
    Ok(file.sync_all().map_err(Error::at("cannot write", path))?)
}

fn fill_and_flush<E: From<Error>>(
    file: &File,
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut writer = BufWriter::with_capacity(BUFFER, file);
    fill(&mut writer)?;
    Ok(writer.flush().map_err(Error::at("cannot write", path))?)
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
        let fill = |file: &mut BufWriter<&File>| {
            file.write_all(b"new").unwrap();
            Err(Error::at("cannot compute", &path)(ErrorKind::Other.into()))
        };
        for failed in [
            write_with(&path, Access::Owner, fill),
            write_unsynced_with(&path, Access::Owner, fill),
        ] {
            assert_eq!(failed.unwrap_err().action, "cannot compute");
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_that_is_not_synced_appears_as_a_whole_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, Access::Owner, b"old").unwrap();
        write_unsynced_with(&path, Access::Owner, |file| {
            file.write_all(b"new").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"old");
            Ok::<_, Error>(())
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
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

    #[test]
    fn a_file_that_grew_bit_by_bit_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let (part, path) = (dir.path().join("part"), dir.path().join("weights"));
        fs::write(&path, "old").unwrap();
        create(&part, Access::Owner, b"new").unwrap();
        publish(&part, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!part.exists());
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
