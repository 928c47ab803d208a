//! Where data lies: files, folders and patterns on this machine, addresses elsewhere; in an order
//! that is the same on every machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::fetch::Client;
use super::hub;
use crate::corpus::files::files_under;
use crate::error::{Error, Result};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plain text: one document, or several with a separator between them.
    Text,
    /// One JSON object a line.
    JsonLines,
    /// Rows of Apache Parquet.
    Parquet,
}

impl Kind {
    /// Names that a person may give, and what they mean.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("text", Self::Text),
        ("jsonl", Self::JsonLines),
        ("parquet", Self::Parquet),
    ];

    /// What a file of this name holds, after its `.gz` or `.zst` is taken off.
    pub(super) fn of(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let plain = [".gz", ".zst", ".zstd"]
            .iter()
            .find_map(|end| lower.strip_suffix(end))
            .unwrap_or(&lower);
        match plain.rsplit_once('.')?.1 {
            "txt" | "text" | "md" => Some(Self::Text),
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A file to be read.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// What people call it.
    pub name: String,
    pub kind: Kind,
    pub place: Place,
    /// Its length in bytes, where it is known.
    pub bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Local(PathBuf),
    Remote { url: String, sha256: Option<String> },
}

/// The files that `sources` stand for, and the names of those that hold something else and are left
/// out.
pub(super) fn find(
    sources: &[String],
    kind: Option<Kind>,
    client: &Client,
) -> Result<(Vec<Input>, Vec<String>)> {
    let mut found = Found {
        kind,
        inputs: Vec::new(),
        left_out: Vec::new(),
    };
    for source in sources {
        let before = found.inputs.len();
        found.add(source, client)?;
        if found.inputs.len() == before {
            return Err(Error::Prepare {
                place: source.clone(),
                reason: "there is nothing to read: .txt, .md, .jsonl, .ndjson, .json and .parquet are read, each also as .gz or \
                         .zst; name another file, or say what it holds with --format"
                    .to_owned(),
            });
        }
    }
    Ok((found.inputs, found.left_out))
}

struct Found {
    kind: Option<Kind>,
    inputs: Vec<Input>,
    left_out: Vec<String>,
}

impl Found {
    fn add(&mut self, source: &str, client: &Client) -> Result<()> {
        if let Some(set) = hub::DataSet::parse(source, &client.endpoint)? {
            for file in set.list(client)? {
                self.push(
                    file.name,
                    file.bytes,
                    Place::Remote {
                        url: file.url,
                        sha256: file.sha256,
                    },
                    false,
                );
            }
            return Ok(());
        }
        if source.starts_with("http://") || source.starts_with("https://") {
            let place = Place::Remote {
                url: source.to_owned(),
                sha256: None,
            };
            self.push(source.to_owned(), None, place, true);
            return Ok(());
        }
        let path = Path::new(source);
        if path.exists() || !source.contains(['*', '?', '[']) {
            return self.local(path, true);
        }
        let refused = |reason: String| Error::Prepare {
            place: source.to_owned(),
            reason,
        };
        let matches = glob::glob(source).map_err(|error| refused(error.to_string()))?;
        for path in matches {
            let path = path.map_err(|error| refused(error.to_string()))?;
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
            self.push(name, Some(bytes), Place::Local(path), named && !is_folder);
        }
        Ok(())
    }

    /// A file that was `named` itself, and not found in a folder, is text unless its name says
    /// otherwise.
    fn push(&mut self, name: String, bytes: Option<u64>, place: Place, named: bool) {
        let path = name.split(['?', '#']).next().unwrap_or(&name);
        match self.kind.or(Kind::of(path)).or(named.then_some(Kind::Text)) {
            Some(kind) => self.inputs.push(Input {
                name,
                kind,
                place,
                bytes,
            }),
            None => self.left_out.push(name),
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

    fn names(sources: &[String], kind: Option<Kind>) -> (Vec<String>, Vec<String>) {
        let (inputs, left_out) = find(sources, kind, &Client::default()).unwrap();
        (
            inputs.into_iter().map(|input| input.name).collect(),
            left_out,
        )
    }

    #[test]
    fn a_name_says_what_a_file_holds() {
        for (name, kind) in [
            ("a.txt", Some(Kind::Text)),
            ("a.b.JSONL.gz", Some(Kind::JsonLines)),
            ("a.json.zst", Some(Kind::JsonLines)),
            ("train-00000-of-00002.parquet", Some(Kind::Parquet)),
            ("a.gz", None),
            ("a.csv", None),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn a_folder_is_read_in_order_and_what_is_left_out_is_named() {
        let dir = folder(&[
            "b.txt",
            "a/z.jsonl",
            "a/.hidden.txt",
            "c.csv",
            "d/e/f.parquet",
        ]);
        let (found, left_out) = names(&[dir.path().display().to_string()], None);
        assert_eq!(found, ["a/z.jsonl", "b.txt", "d/e/f.parquet"]);
        assert_eq!(left_out, ["c.csv"]);
    }

    #[test]
    fn a_pattern_stands_for_the_files_it_matches() {
        let dir = folder(&["x-2.txt", "x-1.txt", "y.txt"]);
        let (found, _) = names(&[dir.path().join("x-*.txt").display().to_string()], None);
        assert_eq!(found, ["x-1.txt", "x-2.txt"]);
    }

    #[test]
    fn a_file_that_is_named_itself_is_text_unless_said_otherwise() {
        let dir = folder(&["README"]);
        let source = [dir.path().join("README").display().to_string()];
        for (kind, expected) in [(None, Kind::Text), (Some(Kind::JsonLines), Kind::JsonLines)] {
            let (inputs, _) = find(&source, kind, &Client::default()).unwrap();
            assert_eq!(inputs[0].kind, expected);
        }
    }

    #[test]
    fn what_stands_for_nothing_is_refused_by_name() {
        let dir = folder(&["c.csv"]);
        for source in [
            dir.path().display().to_string(),
            dir.path().join("*.txt").display().to_string(),
        ] {
            let why = find(std::slice::from_ref(&source), None, &Client::default())
                .unwrap_err()
                .to_string();
            assert!(why.contains(&source) && why.contains("--format"), "{why}");
        }
        let why = find(&["/nowhere/x.txt".into()], None, &Client::default())
            .unwrap_err()
            .to_string();
        assert!(why.contains("/nowhere/x.txt"), "{why}");
    }
}
