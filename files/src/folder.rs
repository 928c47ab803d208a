//! Folders.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::{Error, Result};
use crate::sync::{sync_folder, sync_tree};
use crate::{TEMPORARY, make_parent};

/// Makes a new folder with what `fill` writes into the temporary folder it is given. `path` may be
/// an empty folder, which is replaced.
///
/// # Errors
/// When `path` is a file or a folder that is not empty ([`ErrorKind::AlreadyExists`]); what `fill`
/// returns; what the operating system says. Nothing is left behind.
pub fn create_folder<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    if is_taken(path) {
        let source = io::Error::new(ErrorKind::AlreadyExists, "it exists already");
        return Err(Error::at("cannot create", path)(source).into());
    }
    let parent = make_parent(path)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    allow_usual(&mut builder);
    let folder = builder
        .tempdir_in(&parent)
        .map_err(Error::at("cannot write", path))?;
    fill(folder.path())?;
    sync_tree(folder.path())
        .and_then(|()| fs::rename(folder.path(), path))
        .and_then(|()| sync_folder(&parent))
        .map_err(Error::at("cannot write", path))?;
    Ok(())
}

fn is_taken(path: &Path) -> bool {
    path.is_file() || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// The mode of the user's other new folders, where temporary ones are their owner's alone.
#[cfg(unix)]
fn allow_usual(builder: &mut tempfile::Builder<'_, '_>) {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(Permissions::from_mode(0o777));
}

#[cfg(not(unix))]
fn allow_usual(_: &mut tempfile::Builder<'_, '_>) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn with_one_file(path: &Path) -> Result<()> {
        create_folder(path, |inside| {
            fs::write(inside.join("a"), b"a").map_err(Error::at("cannot write", inside))
        })
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        create_folder(&path, |inside| {
            fs::write(inside.join("a"), b"a").unwrap();
            Err(Error::at("on purpose", inside)(ErrorKind::Other.into()))
        })
        .unwrap_err();
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        with_one_file(&path).unwrap();
        assert_eq!(names(&path), ["a"]);
        let error = create_folder(&path, |_| Ok::<_, Error>(())).unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("model"), "{error}");
        assert_eq!(names(&path), ["a"]);
    }

    #[test]
    fn an_empty_folder_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        fs::create_dir(&path).unwrap();
        with_one_file(&path).unwrap();
        assert_eq!(names(dir.path()), ["model"]);
        assert_eq!(names(&path), ["a"]);
    }
}
