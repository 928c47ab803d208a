//! Files and folders that are there whole, or not at all: they are made under another name, and
//! renamed at the end.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Bytes that are handed to the system at once.
const BUFFER: usize = 1 << 20;

/// Makes a new folder and lets `fill` write into it.
///
/// # Errors
/// Where there is something at `path` already, what `fill` says, and what the system says.
pub(crate) fn folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) || path.is_file() {
        return Err(refused(
            path,
            "there is something there already; name a folder that is not there yet",
        ));
    }
    let parent = parent(path)?;
    let mut builder = tempfile::Builder::new();
    permissions(&mut builder, 0o777);
    let folder = builder
        .prefix(".weal-")
        .tempdir_in(parent)
        .map_err(|error| failed(path, error))?;
    fill(folder.path())?;
    fs::rename(folder.path(), path).map_err(|error| failed(path, error))
}

/// Makes a new file, or replaces an old one, with what `fill` writes.
///
/// # Errors
/// What `fill` says, and what the system says.
pub(crate) fn file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
) -> Result<()> {
    let mut builder = tempfile::Builder::new();
    permissions(&mut builder, 0o666);
    let file = builder
        .prefix(".weal-")
        .tempfile_in(parent(path)?)
        .map_err(|error| failed(path, error))?;
    let mut writer = BufWriter::with_capacity(BUFFER, file.as_file());
    fill(&mut writer)?;
    writer
        .flush()
        .and_then(|()| file.as_file().sync_all())
        .map_err(|error| failed(path, error))?;
    drop(writer);
    file.persist(path)
        .map(drop)
        .map_err(|error| failed(path, error.error))
}

/// Writes a small file into a folder that is being filled.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|error| failed(path, error))
}

/// Lets a file be read by those who may read the other.
pub(crate) fn like(path: &Path, other: &Path) -> Result<()> {
    let permissions = fs::metadata(other)
        .map_err(|error| failed(other, error))?
        .permissions();
    fs::set_permissions(path, permissions).map_err(|error| failed(path, error))
}

/// What cannot be written, and why.
pub(crate) fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::Export {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

/// What the system said.
pub(crate) fn failed(path: &Path, error: io::Error) -> Error {
    refused(path, error.to_string())
}

fn parent(path: &Path) -> Result<PathBuf> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| failed(path, error))?;
    Ok(parent.to_owned())
}

/// Those that other new files get, not only for the owner.
fn permissions(builder: &mut tempfile::Builder<'_, '_>, mode: u32) {
    #[cfg(unix)]
    builder.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode));
    #[cfg(not(unix))]
    let _: (Option<Permissions>, u32) = (None, mode);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let failing = || Err(refused(Path::new("x"), "on purpose"));
        let path = dir.path().join("model");
        folder(&path, |inside| {
            write(&inside.join("a"), b"a").and_then(|()| failing())
        })
        .unwrap_err();
        file(&path, |writer| {
            writer.write_all(b"a").unwrap();
            failing()
        })
        .unwrap_err();
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        folder(&path, |inside| write(&inside.join("a"), b"a")).unwrap();
        assert_eq!(names(&path), ["a"]);
        let why = folder(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(why.contains("model") && why.contains("already"), "{why}");
    }

    #[test]
    fn a_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        for text in ["first", "second"] {
            file(&path, |writer| {
                writer
                    .write_all(text.as_bytes())
                    .map_err(|error| failed(&path, error))
            })
            .unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
