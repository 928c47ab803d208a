//! Data sets in Hugging Face's layout: named by an address, listed through its API.
//!
//! ```text
//! hf://datasets/<owner>/<name>[@<revision>][/<path or pattern>]
//! <endpoint>/datasets/<owner>/<name>[/tree/<revision>[/<path>]]
//! ```

use serde::Deserialize;

use super::fetch::Client;
use super::place::Kind;
use crate::error::{Error, Result};

/// Pages of a listing that are read; a page has up to 1,000 entries.
const PAGES: usize = 1_000;

/// A data set, or some of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DataSet {
    repository: String,
    revision: String,
    /// A folder, a file or a pattern; empty for all of it.
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

/// A large file's content hash (SHA-256).
#[derive(Deserialize)]
struct Large {
    oid: String,
}

impl DataSet {
    /// What an address says, where it names a data set at all.
    pub fn parse(source: &str, endpoint: &str) -> Result<Option<Self>> {
        if let Some(rest) = source.strip_prefix("hf://") {
            let refused = || Error::Prepare {
                place: source.to_owned(),
                reason: "hf://datasets/<owner>/<name>[@<revision>][/<path>] is accepted".to_owned(),
            };
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
            // One file, by its own address.
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

    /// Its files, in the order of their paths.
    pub fn list(&self, client: &Client) -> Result<Vec<HubFile>> {
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
        for _ in 0..PAGES {
            let Some(page) = next.take() else { break };
            let (entries, following): (Vec<Entry>, _) = client.json(&page)?;
            // Nobody is led elsewhere by a listing.
            next = following.filter(|url| url.starts_with(&format!("{endpoint}/")));
            files.extend(
                entries
                    .into_iter()
                    .filter(|entry| entry.kind == "file" && self.takes(&entry.path)),
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

    /// The folder that has all that is wanted.
    fn folder(&self) -> &str {
        let wild = self.path.find(['*', '?', '[']).unwrap_or(self.path.len());
        let is_folder = wild == self.path.len() && Kind::of(&self.path).is_none();
        if is_folder {
            &self.path
        } else {
            self.path[..wild]
                .rfind('/')
                .map_or("", |slash| &self.path[..slash])
        }
    }

    fn takes(&self, path: &str) -> bool {
        let within = path
            .strip_prefix(&self.path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.path.is_empty()
            || within
            || glob::Pattern::new(&self.path).is_ok_and(|pattern| pattern.matches(path))
    }
}

/// Percent-encodes what may not stand in an address; what is encoded already stays.
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
    fn other_addresses_are_those_of_files() {
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
    fn only_the_folder_that_has_what_is_wanted_is_listed() {
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
    fn a_path_takes_a_file_a_folder_or_a_pattern() {
        let takes = |path: &str, file: &str| DataSet::new("a", "b", "main", path).takes(file);
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
    fn what_may_not_stand_in_an_address_is_encoded() {
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
