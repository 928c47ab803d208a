//! Data sets on Hugging Face: their addresses, and listing them through its API.
//!
//! ```text
//! hf://datasets/<owner>/<name>[@<revision>][/<path or pattern>]
//! <endpoint>/datasets/<owner>/<name>[/tree/<revision>[/<path>]]
//! ```

use serde::Deserialize;

use super::fetch::DownloadClient;
use super::kind::FileKind;
use super::walk::matches;
use crate::error::{Error, Result};

/// The most pages of a listing that are read; a page has up to 1,000 entries.
const MAX_PAGES: usize = 1_000;

/// A data set, or some of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DataSet {
    repository: String,
    revision: String,
    /// A folder, a file or a pattern; empty for the whole data set.
    path: String,
}

/// A file of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubFile {
    pub name: String,
    pub url: String,
    pub bytes: Option<u64>,
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    size: Option<u64>,
    lfs: Option<Large>,
}

/// The content hash (SHA-256) of a large file.
#[derive(Deserialize)]
struct Large {
    oid: String,
}

impl DataSet {
    /// Parses an address; `None` if it does not name a data set.
    pub(super) fn parse(source: &str, endpoint: &str) -> Result<Option<Self>> {
        if let Some(rest) = source.strip_prefix("hf://") {
            let expected = "expected hf://datasets/<owner>/<name>[@<revision>][/<path>]";
            let refused = || Error::prepare(source, expected);
            let mut parts = rest
                .strip_prefix("datasets/")
                .ok_or_else(refused)?
                .splitn(3, '/');
            let owner = parts
                .next()
                .filter(|owner| !owner.is_empty())
                .ok_or_else(refused)?;
            let name = parts
                .next()
                .filter(|name| !name.is_empty())
                .ok_or_else(refused)?;
            let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
            return Ok(Some(Self::new(
                owner,
                name,
                revision,
                parts.next().unwrap_or_default(),
            )));
        }
        let Some(rest) = source
            .strip_prefix(endpoint)
            .and_then(|rest| rest.strip_prefix("/datasets/"))
        else {
            return Ok(None);
        };
        let parts: Vec<&str> = rest.trim_end_matches('/').splitn(5, '/').collect();
        Ok(match parts.as_slice() {
            [owner, name] => Some(Self::new(owner, name, "main", "")),
            [owner, name, "tree", revision] => Some(Self::new(owner, name, revision, "")),
            [owner, name, "tree", revision, path] => Some(Self::new(owner, name, revision, path)),
            // The URL of one file.
            _ => None,
        })
    }

    fn new(owner: &str, name: &str, revision: &str, path: &str) -> Self {
        let path = path.trim_matches('/').to_owned();
        Self {
            repository: format!("{owner}/{name}"),
            revision: revision.to_owned(),
            path,
        }
    }

    /// Lists its files, sorted by path.
    pub(super) fn list(&self, client: &DownloadClient) -> Result<Vec<HubFile>> {
        let (endpoint, repository) = (&client.endpoint, &self.repository);
        let revision = encode(&self.revision, false);
        let folder = self.folder();
        let slash = if folder.is_empty() { "" } else { "/" };
        let folder = encode(folder, true);
        let first = format!(
            "{endpoint}/api/datasets/{repository}/tree/{revision}{slash}{folder}?recursive=true"
        );
        let mut next = Some(first.clone());
        let mut files = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(page) = next.take() else { break };
            let (entries, following): (Vec<Entry>, _) = client.json(&page)?;
            // A listing must not redirect to another server.
            next = following.filter(|url| url.starts_with(&format!("{endpoint}/")));
            files.extend(
                entries
                    .into_iter()
                    .filter(|entry| entry.kind == "file" && self.matches_path(&entry.path)),
            );
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(files
            .into_iter()
            .map(|entry| HubFile {
                url: format!(
                    "{endpoint}/datasets/{repository}/resolve/{revision}/{}",
                    encode(&entry.path, true)
                ),
                name: entry.path,
                bytes: entry.size,
                sha256: entry.lfs.map(|large| large.oid),
            })
            .collect())
    }

    /// Whether the address names its files in full.
    pub(super) fn names_files(&self) -> bool {
        FileKind::of(&self.path).is_some() && !self.path.contains(['*', '?', '['])
    }

    /// The innermost folder that contains all wanted files.
    fn folder(&self) -> &str {
        let wild = self.path.find(['*', '?', '[']).unwrap_or(self.path.len());
        let is_folder = wild == self.path.len() && FileKind::of(&self.path).is_none();
        if is_folder {
            &self.path
        } else {
            self.path[..wild]
                .rfind('/')
                .map_or("", |slash| &self.path[..slash])
        }
    }

    fn matches_path(&self, path: &str) -> bool {
        let within = path
            .strip_prefix(&self.path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.path.is_empty()
            || within
            || glob::Pattern::new(&self.path).is_ok_and(|pattern| matches(&pattern, path))
    }
}

/// Percent-encodes characters that URLs do not allow. What is already encoded stays.
fn encode(text: &str, keep_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' if keep_slashes => encoded.push('/'),
            b'-' | b'_' | b'.' | b'~' | b'%' | b'=' | b'+' => encoded.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: &str = "https://huggingface.co";

    fn set(source: &str) -> Option<DataSet> {
        DataSet::parse(source, ENDPOINT).unwrap()
    }

    #[test]
    fn an_address_names_a_data_set_a_revision_and_a_path() {
        for (source, revision, path) in [
            ("hf://datasets/a/b", "main", ""),
            (
                "hf://datasets/a/b@v1/data/*.parquet",
                "v1",
                "data/*.parquet",
            ),
            ("https://huggingface.co/datasets/a/b", "main", ""),
            ("https://huggingface.co/datasets/a/b/", "main", ""),
            (
                "https://huggingface.co/datasets/a/b/tree/v2/data/en",
                "v2",
                "data/en",
            ),
        ] {
            assert_eq!(
                set(source),
                Some(DataSet::new("a", "b", revision, path)),
                "{source}"
            );
        }
    }

    #[test]
    fn other_addresses_are_files() {
        for source in [
            "https://example.org/datasets/a/b",
            "https://huggingface.co/datasets/a/b/resolve/main/x.txt",
            "book.txt",
        ] {
            assert_eq!(set(source), None);
        }
        assert!(
            DataSet::parse("hf://a/b", ENDPOINT)
                .unwrap_err()
                .to_string()
                .contains("hf://datasets/<owner>")
        );
    }

    #[test]
    fn only_the_folder_of_the_wanted_files_is_listed() {
        for (path, folder) in [
            ("", ""),
            ("data/en", "data/en"),
            ("data/en/*.parquet", "data/en"),
            ("x.txt", ""),
            ("data/x.jsonl", "data"),
        ] {
            assert_eq!(
                DataSet::new("a", "b", "main", path).folder(),
                folder,
                "{path}"
            );
        }
    }

    #[test]
    fn a_path_matches_a_file_a_folder_or_a_pattern() {
        let takes =
            |path: &str, file: &str| DataSet::new("a", "b", "main", path).matches_path(file);
        assert!(
            takes("", "x.txt") && takes("data", "data/x.txt") && takes("data/x.txt", "data/x.txt")
        );
        assert!(
            takes("data/*.txt", "data/x.txt")
                && !takes("data/*.txt", "data/x.md")
                && !takes("dat", "data/x.txt")
        );
    }

    #[test]
    fn characters_that_urls_do_not_allow_are_encoded() {
        assert_eq!(encode("a b/ö.txt", true), "a%20b/%C3%B6.txt");
        assert_eq!(
            encode("refs/convert/parquet", false),
            "refs%2Fconvert%2Fparquet"
        );
        assert_eq!(
            encode("refs%2Fconvert%2Fparquet", false),
            "refs%2Fconvert%2Fparquet"
        );
    }
}
