//! Folders.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::sync::{sync_folder, sync_tree};
use crate::temporary::{TemporaryFolder, uninterrupted};
use crate::{TEMPORARY, make_parent};

/// What an empty folder may hold: what systems put at the top of a volume, and what an interrupted
/// process left.
const NOTHING: [&str; 6] = [
    "lost+found",
    "System Volume Information",
    ".DS_Store",
    ".Trashes",
    ".fseventsd",
    ".Spotlight-V100",
];

/// Makes a new folder with what `fill` writes into the temporary folder it is given. `path` may be
/// an empty folder, such as a volume that is mounted there: it is filled, and stays the folder that
/// it is.
///
/// # Errors
/// When `path` is a file or a folder that is not empty ([`ErrorKind::AlreadyExists`]); what `fill`
/// returns; what the operating system says. Nothing is left behind.
pub fn create_folder<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let place = Place::of(path)?;
    let folder = place.temporary().map_err(Error::at("cannot write", path))?;
    fill(folder.path())?;
    place
        .take(&folder)
        .map_err(Error::at("cannot write", path))?;
    Ok(())
}

/// Checks that [`create_folder`] could make a folder at `path`. For callers that need long until
/// they know what to write.
///
/// # Errors
/// As for [`create_folder`].
pub fn can_create_folder(path: &Path) -> Result<()> {
    let place = Place::of(path)?;
    place
        .temporary()
        .map(drop)
        .map_err(Error::at("cannot write", path))
}

/// Where a new folder comes to be.
enum Place<'a> {
    /// It does not exist: a temporary folder beside it is renamed.
    Beside { path: &'a Path, parent: PathBuf },
    /// It exists: what a temporary folder inside it holds is moved up. A folder on which a volume
    /// is mounted could not be replaced.
    Inside(&'a Path),
}

impl<'a> Place<'a> {
    fn of(path: &'a Path) -> Result<Self> {
        if is_taken(path) {
            let source = io::Error::new(ErrorKind::AlreadyExists, "it exists already");
            return Err(Error::at("cannot create", path)(source));
        }
        Ok(if path.is_dir() {
            Self::Inside(path)
        } else {
            let parent = make_parent(path)?;
            Self::Beside { path, parent }
        })
    }

    fn temporary(&self) -> io::Result<TemporaryFolder> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY);
        allow_usual(&mut builder);
        match self {
            Self::Beside { parent, .. } => TemporaryFolder::new(&builder, parent),
            Self::Inside(path) => TemporaryFolder::new(&builder, path),
        }
    }

    /// Puts what the temporary folder holds into its place.
    fn take(&self, folder: &TemporaryFolder) -> io::Result<()> {
        sync_tree(folder.path())?;
        match self {
            Self::Beside { path, parent } => {
                fs::rename(folder.path(), path)?;
                sync_folder(parent)
            }
            Self::Inside(path) => {
                if is_taken(path) {
                    let why = "another process has written into it";
                    return Err(io::Error::new(ErrorKind::AlreadyExists, why));
                }
                uninterrupted(|| move_up(folder.path(), path))?;
                sync_folder(path)
            }
        }
    }
}

/// Moves everything from one folder into another, all or nothing. What was written last comes last,
/// so that a file that describes the others does not stand there without them.
fn move_up(from: &Path, to: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    let written = |entry: &fs::DirEntry| entry.metadata().and_then(|data| data.modified()).ok();
    entries.sort_by_key(|entry| (entry.path().is_file(), written(entry), entry.file_name()));
    let mut moved = Vec::new();
    for entry in entries {
        let goal = to.join(entry.file_name());
        if let Err(error) = fs::rename(entry.path(), &goal) {
            for (back, goal) in moved {
                let _ = fs::rename(goal, back);
            }
            return Err(error);
        }
        moved.push((entry.path(), goal));
    }
    Ok(())
}

fn is_taken(path: &Path) -> bool {
    let counts = |name: &OsStr| {
        let name = name.to_string_lossy();
        !NOTHING.contains(&&*name) && !name.starts_with(TEMPORARY)
    };
    // What is no folder, but there, is taken.
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().any(|entry| counts(&entry.file_name())),
        Err(_) => fs::symlink_metadata(path).is_ok() && !path.is_dir(),
    }
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
    fn a_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        fs::write(&path, b"precious").unwrap();
        let error = with_one_file(&path).unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[cfg(unix)]
    #[test]
    fn an_empty_folder_stays_the_folder_that_it_is() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volume");
        // As a fresh volume is, and as an interrupted process leaves it.
        fs::create_dir_all(path.join("lost+found")).unwrap();
        fs::create_dir(path.join(".weal-left")).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        with_one_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        let mut found = names(&path);
        found.sort();
        assert_eq!(found, [".weal-left", "a", "lost+found"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_an_empty_folder_is_filled() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, link) = (dir.path().join("disk"), dir.path().join("link"));
        fs::create_dir(&disk).unwrap();
        std::os::unix::fs::symlink(&disk, &link).unwrap();
        with_one_file(&link).unwrap();
        assert_eq!(names(&disk), ["a"]);
    }

    #[test]
    fn nothing_is_left_in_an_empty_folder_that_could_not_be_filled() {
        let dir = tempfile::tempdir().unwrap();
        create_folder(dir.path(), |inside| {
            fs::write(inside.join("a"), b"a").unwrap();
            Err(Error::at("on purpose", inside)(ErrorKind::Other.into()))
        })
        .unwrap_err();
        assert_eq!(names(dir.path()), [""; 0]);
    }
}
