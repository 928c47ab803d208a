//! Finds the data files that the user named: local files, folders and patterns, URLs, and Hugging
//! Face data sets, in the same order on every machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::fetch::DownloadClient;
use super::hugging_face::DataSet;
use super::kind::FileKind;
use super::walk::files_under;
use crate::error::{Error, Result};

/// A data file.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// Its name in messages and in the index.
    pub name: String,
    pub kind: FileKind,
    pub location: Location,
    /// Its length in bytes, if known.
    pub bytes: Option<u64>,
}

/// Where a data file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Local(PathBuf),
    Remote { url: String, sha256: Option<String> },
}

/// The files that `sources` stand for, and the names of files skipped because their kind is
/// unknown.
pub(super) fn find(
    sources: &[String],
    kind: Option<FileKind>,
    client: &DownloadClient,
) -> Result<(Vec<Input>, Vec<String>)> {
    let mut found = Found {
        kind,
        inputs: Vec::new(),
        skipped: Vec::new(),
    };
    for source in sources {
        let before = found.inputs.len();
        found.add(source, client)?;
        if found.inputs.len() == before {
            return Err(Error::Prepare {
                place: source.clone(),
                reason:
                    "it holds no file of a known kind: .txt, .md, .jsonl, .ndjson or .json, each \
                         optionally .gz or .zst, or .parquet"
                        .to_owned(),
                hint: Some("name another file, or give its kind with --format".into()),
            });
        }
    }
    Ok((found.inputs, found.skipped))
}

struct Found {
    kind: Option<FileKind>,
    inputs: Vec<Input>,
    skipped: Vec<String>,
}

impl Found {
    fn add(&mut self, source: &str, client: &DownloadClient) -> Result<()> {
        if let Some(set) = DataSet::parse(source, &client.endpoint)? {
            for file in set.list(client)? {
                self.push(
                    file.name,
                    file.bytes,
                    Location::Remote {
                        url: file.url,
                        sha256: file.sha256,
                    },
                    false,
                );
            }
            return Ok(());
        }
        if source.starts_with("http://") || source.starts_with("https://") {
            let location = Location::Remote {
                url: source.to_owned(),
                sha256: None,
            };
            self.push(source.to_owned(), None, location, true);
            return Ok(());
        }
        let path = Path::new(source);
        if path.exists() || !source.contains(['*', '?', '[']) {
            return self.local(path, true);
        }
        let matches = glob::glob(source).map_err(|error| Error::prepare(source, error))?;
        for path in matches {
            let path = path.map_err(|error| Error::prepare(source, error))?;
            self.local(&path, false)?;
        }
        Ok(())
    }

    /// Adds a file, or the files of a folder.
    fn local(&mut self, root: &Path, named: bool) -> Result<()> {
        let is_folder = root.is_dir();
        for path in files_under(root)? {
            let inside = if is_folder {
                path.strip_prefix(root).ok()
            } else {
                path.file_name().map(Path::new)
            };
            let name = inside.unwrap_or(&path).display().to_string();
            let metadata = fs::metadata(&path);
            let bytes = metadata
                .map_err(|source| Error::DataUnreadable {
                    path: path.clone(),
                    source,
                })?
                .len();
            self.push(
                name,
                Some(bytes),
                Location::Local(path),
                named && !is_folder,
            );
        }
        Ok(())
    }

    /// A file of unknown kind counts as text if the user `named` the file itself, and is skipped if
    /// it was found in a folder.
    fn push(&mut self, name: String, bytes: Option<u64>, location: Location, named: bool) {
        let path = name.split(['?', '#']).next().unwrap_or(&name);
        match self
            .kind
            .or(FileKind::of(path))
            .or(named.then_some(FileKind::Text))
        {
            Some(kind) => self.inputs.push(Input {
                name,
                kind,
                location,
                bytes,
            }),
            None => self.skipped.push(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    fn names(sources: &[String], kind: Option<FileKind>) -> (Vec<String>, Vec<String>) {
        let (inputs, skipped) = find(sources, kind, &DownloadClient::default()).unwrap();
        (
            inputs.into_iter().map(|input| input.name).collect(),
            skipped,
        )
    }

    #[test]
    fn a_folder_is_read_in_order_and_skipped_files_are_named() {
        let dir = folder(&[
            "b.txt",
            "a/z.jsonl",
            "a/.hidden.txt",
            "c.csv",
            "d/e/f.parquet",
        ]);
        let (found, skipped) = names(&[dir.path().display().to_string()], None);
        assert_eq!(found, ["a/z.jsonl", "b.txt", "d/e/f.parquet"]);
        assert_eq!(skipped, ["c.csv"]);
    }

    #[test]
    fn a_pattern_stands_for_the_files_it_matches() {
        let dir = folder(&["x-2.txt", "x-1.txt", "y.txt"]);
        let (found, _) = names(&[dir.path().join("x-*.txt").display().to_string()], None);
        assert_eq!(found, ["x-1.txt", "x-2.txt"]);
    }

    #[test]
    fn a_file_named_by_the_user_is_text_by_default() {
        let dir = folder(&["README"]);
        let source = [dir.path().join("README").display().to_string()];
        for (kind, expected) in [
            (None, FileKind::Text),
            (Some(FileKind::JsonLines), FileKind::JsonLines),
        ] {
            let (inputs, _) = find(&source, kind, &DownloadClient::default()).unwrap();
            assert_eq!(inputs[0].kind, expected);
        }
    }

    #[test]
    fn a_source_without_files_is_refused_by_name() {
        let dir = folder(&["c.csv"]);
        for source in [
            dir.path().display().to_string(),
            dir.path().join("*.txt").display().to_string(),
        ] {
            let error = find(
                std::slice::from_ref(&source),
                None,
                &DownloadClient::default(),
            )
            .unwrap_err();
            let (why, hint) = (error.to_string(), error.hint().unwrap());
            assert!(
                why.contains(&source) && hint.contains("--format"),
                "{why}: {hint}"
            );
        }
        let why = find(&["/nowhere/x.txt".into()], None, &DownloadClient::default())
            .unwrap_err()
            .to_string();
        assert!(why.contains("/nowhere/x.txt"), "{why}");
    }
}
