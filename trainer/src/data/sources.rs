//! Finds the data files that the user named: local files, folders and patterns, URLs, and Hugging
//! Face data sets, in the same order on every machine.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::fetch::DownloadClient;
use super::hugging_face::{DataSet, HubFile};
use super::kind::FileKind;
use super::metadata::is_metadata;
use super::walk::{FileWalk, FoundPath, LeftOut};
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

/// The files that sources stand for.
#[derive(Debug)]
pub(super) struct Sources {
    pub inputs: Vec<Input>,
    /// What was left out of folders and patterns, and why.
    pub left_out: Vec<(String, LeftOut)>,
}

/// The files that `sources` stand for.
pub(super) fn find(
    sources: &[String],
    kind: Option<FileKind>,
    client: &DownloadClient,
) -> Result<Sources> {
    let mut found = Found {
        kind,
        inputs: Vec::new(),
        walk: FileWalk::default(),
        urls: HashSet::new(),
    };
    for source in sources {
        let before = (found.inputs.len(), found.walk.left_out.len());
        found.add(source, client)?;
        let left_out = &found.walk.left_out[before.1..];
        let again = left_out.iter().any(|(_, why)| *why == LeftOut::Again);
        if found.inputs.len() == before.0 && !again {
            return Err(nothing(source, left_out));
        }
    }
    Ok(Sources {
        inputs: found.inputs,
        left_out: found.walk.left_out,
    })
}

/// A source without a file to read.
fn nothing(source: &str, left_out: &[(String, LeftOut)]) -> Error {
    let others = match left_out {
        [] => String::new(),
        [(name, why), ..] => format!(
            "; {} left out, such as {name} ({})",
            left_out.len(),
            why.name()
        ),
    };
    Error::Prepare {
        place: source.to_owned(),
        reason: format!(
            "it holds no file of a known kind: .txt, .md, .jsonl, .ndjson or .json, each \
             optionally .gz or .zst, or .parquet{others}"
        ),
        hint: Some("name another file, or give its kind with --format".into()),
    }
}

struct Found {
    kind: Option<FileKind>,
    inputs: Vec<Input>,
    walk: FileWalk,
    /// The remote files among the inputs.
    urls: HashSet<String>,
}

impl Found {
    fn add(&mut self, source: &str, client: &DownloadClient) -> Result<()> {
        if let Some(set) = DataSet::parse(source, &client.endpoint)? {
            for file in set.list(client)? {
                self.hub_file(file, set.names_files());
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
        let is_pattern = source.contains(['*', '?', '[']) && !path.exists();
        let named = !is_pattern && !path.is_dir();
        let found = if is_pattern {
            self.walk.pattern(source)?
        } else {
            self.walk.path(path)?
        };
        for FoundPath { path, name } in found {
            let metadata = fs::metadata(&path);
            let bytes = metadata
                .map_err(|source| Error::DataUnreadable {
                    path: path.clone(),
                    source,
                })?
                .len();
            self.push(name, Some(bytes), Location::Local(path), named);
        }
        Ok(())
    }

    /// Adds a file of a data set by the rules for files of a folder.
    fn hub_file(&mut self, file: HubFile, named: bool) {
        let own = file.name.rsplit('/').next().unwrap_or_default();
        let why = match () {
            () if named => None,
            () if file.name.split('/').any(|part| part.starts_with('.')) => Some(LeftOut::Hidden),
            () if is_metadata(own) => Some(LeftOut::Metadata),
            () => None,
        };
        match why {
            Some(why) => self.walk.left_out.push((file.name, why)),
            None => {
                let location = Location::Remote {
                    url: file.url,
                    sha256: file.sha256,
                };
                self.push(file.name, file.bytes, location, false);
            }
        }
    }

    /// A file of unknown kind counts as text if the user `named` the file itself, and is left out
    /// if it was found in a folder.
    fn push(&mut self, name: String, bytes: Option<u64>, location: Location, named: bool) {
        if let Location::Remote { url, .. } = &location
            && !self.urls.insert(url.clone())
        {
            return self.walk.left_out.push((name, LeftOut::Again));
        }
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
            None => self.walk.left_out.push((name, LeftOut::OtherType)),
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
        let found = find(sources, kind, &DownloadClient::default()).unwrap();
        (
            found.inputs.into_iter().map(|input| input.name).collect(),
            found.left_out.into_iter().map(|(name, _)| name).collect(),
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
        assert_eq!(skipped, ["a/.hidden.txt", "c.csv"]);
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
            let found = find(&source, kind, &DownloadClient::default()).unwrap();
            assert_eq!(found.inputs[0].kind, expected);
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

    #[test]
    fn a_file_that_several_sources_name_is_read_once() {
        let dir = folder(&["x.txt", "y.txt"]);
        let path = |name: &str| dir.path().join(name).display().to_string();
        let sources = [path("x.txt"), path(""), path("*.txt"), path("y.txt")];
        let (found, skipped) = names(&sources, None);
        assert_eq!(found, ["x.txt", "y.txt"]);
        assert_eq!(skipped.len(), 4);
    }
}
