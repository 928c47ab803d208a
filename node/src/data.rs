//! Text files on their way into a run: each becomes a source, named and hashed.

use std::fs;
use std::path::{Path, PathBuf};

use weal_proto::BlobHash;
use weal_proto::limits::{NAME_BYTES, SOURCES};
use weal_proto::manifest::DataSource;

use crate::error::{Error, Result};

/// A text file read for a run.
#[derive(Debug)]
pub struct TextFile {
    /// What the manifest will say of it.
    pub source: DataSource,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// Reads files, and the files of folders (recursively, sorted by name, hidden ones left out).
///
/// # Errors
/// When one cannot be read, is empty, or there are none or too many.
pub fn read(paths: &[PathBuf]) -> Result<Vec<TextFile>> {
    let mut files = Vec::new();
    for path in paths {
        let before = files.len();
        collect(path, &mut files)?;
        if files.len() == before {
            return Err(Error::Data(format!(
                "{}: no text files in this folder; give another with --data",
                path.display()
            )));
        }
    }
    if files.len() > SOURCES {
        let count = files.len();
        return Err(Error::Data(format!(
            "{count} files, at most {SOURCES} are accepted; join some of them"
        )));
    }
    files.iter().map(|path| read_one(path)).collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |error| {
        Error::Data(format!(
            "{}: cannot be read: {error}; see --data",
            path.display()
        ))
    };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<_> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(unreadable)?;
    entries.sort_unstable();
    let hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    entries
        .iter()
        .filter(|path| !hidden(path))
        .try_for_each(|path| collect(path, files))
}

fn read_one(path: &Path) -> Result<TextFile> {
    let text = fs::read(path)
        .map_err(|error| Error::Data(format!("{}: cannot be read: {error}", path.display())))?;
    if text.is_empty() {
        return Err(Error::Data(format!(
            "{}: empty; leave it out of --data",
            path.display()
        )));
    }
    let hash = weal_proto::Outline::of(&text).hash();
    let name = path
        .file_name()
        .map_or_else(|| "text".into(), |name| name.to_string_lossy());
    let name = name
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_BYTES / 4)
        .collect();
    Ok(TextFile {
        source: DataSource {
            name,
            hash,
            bytes: text.len() as u64,
        },
        text,
    })
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
    fn what_cannot_be_trained_on_is_named() {
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
}
