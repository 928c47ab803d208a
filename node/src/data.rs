//! Text files on their way into a run: each becomes a source of the manifest, with name, length
//! and hash.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use weal_proto::limits::{NAME_BYTES, SOURCES};
use weal_proto::manifest::DataSource;
use weal_proto::{BlobHash, Outline};

use crate::error::{Error, Result};

/// A text file that was read.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// How the manifest describes it.
    pub source: DataSource,
    pub text: Vec<u8>,
}

/// A text file that was found and can be opened.
#[derive(Debug)]
pub(crate) struct FoundFile {
    path: PathBuf,
    bytes: u64,
}

/// Reads files, and the files in folders: recursively, sorted by name, hidden ones left out.
///
/// # Errors
/// When a file cannot be read or is empty, or there are none or too many.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<TextFile>> {
    find(paths)?.iter().map(FoundFile::read).collect()
}

/// Finds the files that [`read`] would read, without reading them.
///
/// # Errors
/// As for [`read`].
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<FoundFile>> {
    let mut files = Vec::new();
    for path in paths {
        let before = files.len();
        collect(path, &mut files)?;
        if files.len() == before {
            return Err(
                Error::data(format!("{}: no files in this folder", path.display()))
                    .with_hint("choose a folder with text files for --data"),
            );
        }
    }
    if files.len() > SOURCES {
        let count = files.len();
        return Err(
            Error::data(format!("{count} files; a run takes at most {SOURCES}"))
                .with_hint("join some of the files"),
        );
    }
    files.into_iter().map(FoundFile::at).collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !fs::metadata(path).map_err(unreadable(path))?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<_> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(unreadable(path))?;
    entries.sort_unstable();
    let is_hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    entries
        .iter()
        .filter(|path| !is_hidden(path))
        .try_for_each(|path| collect(path, files))
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<'_> {
    move |error| {
        Error::data(format!("{}: cannot be read", path.display()))
            .caused_by(error)
            .with_hint("check the path given with --data, and its permissions")
    }
}

impl FoundFile {
    fn at(path: PathBuf) -> Result<Self> {
        let bytes = File::open(&path)
            .and_then(|file| file.metadata())
            .map_err(unreadable(&path))?
            .len();
        if bytes == 0 {
            return Err(Error::data(format!("{}: empty", path.display()))
                .with_hint("leave the file out of --data"));
        }
        Ok(Self { path, bytes })
    }

    fn read(&self) -> Result<TextFile> {
        let text = fs::read(&self.path).map_err(unreadable(&self.path))?;
        let hash = Outline::of(&text).hash();
        let source = DataSource {
            name: self.name(),
            hash,
            bytes: text.len() as u64,
        };
        Ok(TextFile { source, text })
    }

    /// The source as it would be, but for its hash, which is not the content's.
    pub(crate) fn unread_source(&self) -> DataSource {
        let path = self.path.as_os_str().as_encoded_bytes();
        DataSource {
            name: self.name(),
            hash: BlobHash::from(*blake3::hash(path).as_bytes()),
            bytes: self.bytes,
        }
    }

    fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(|| "text".into(), |name| name.to_string_lossy())
            .chars()
            .filter(|c| !c.is_control())
            .take(NAME_BYTES / 4)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_in_order_without_hidden_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        for (name, text) in [("b/x.txt", "two"), ("a.txt", "one"), (".hidden", "no")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let files = read(&[dir.path().to_owned()]).unwrap();
        assert_eq!(
            files.iter().map(|f| f.text.as_slice()).collect::<Vec<_>>(),
            [b"one", b"two"]
        );
    }

    #[test]
    fn a_file_that_cannot_be_trained_on_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.txt");
        fs::write(&empty, "").unwrap();
        for (path, why) in [
            (empty, "empty"),
            (dir.path().join("nowhere"), "cannot be read"),
        ] {
            let error = read(std::slice::from_ref(&path)).unwrap_err();
            assert_eq!(error.code(), 4);
            assert!(
                error.to_string().contains(why)
                    && error.to_string().contains(&*path.to_string_lossy()),
                "{error}"
            );
        }
    }

    #[test]
    fn a_found_file_is_described_as_it_will_be_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.txt"), "one").unwrap();
        let paths = [dir.path().to_owned()];
        let read = read(&paths).unwrap().remove(0).source;
        let found = find(&paths).unwrap().remove(0).unread_source();
        assert_eq!((found.name, found.bytes), (read.name, read.bytes));
    }
}
