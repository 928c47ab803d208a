//! Finds files: in folders and by patterns, in the same order on every machine.
//!
//! Folders and patterns have the same rules. Links to folders are not followed, so every walk ends;
//! hidden entries, what is no file, and what describes a data set rather than being part of it are
//! left out. A file is found once, whatever its names are. What is left out is listed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::index::PreparedFolder;
use super::metadata::is_metadata;
use crate::error::{Error, Result};

/// Why a file was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// Its name does not show a known kind.
    OtherType,
    /// Its name begins with a dot.
    Hidden,
    /// It describes a data set: a licence, a `README.md`, a `tokenizer.json`.
    Metadata,
    /// It is a folder of prepared tokens.
    Prepared,
    /// It is a link to a folder.
    FolderLink,
    /// It is a link that leads nowhere.
    DeadLink,
    /// It is a pipe, device or socket.
    NoFile,
    /// The same file was found before, by another name or source.
    Again,
}

impl LeftOut {
    /// What such files are, in the plural.
    pub fn name(self) -> &'static str {
        match self {
            Self::OtherType => "files of other types",
            Self::Hidden => "hidden files or folders",
            Self::Metadata => "files about a data set or model",
            Self::Prepared => "folders of prepared tokens",
            Self::FolderLink => "links to folders",
            Self::DeadLink => "links that lead nowhere",
            Self::NoFile => "pipes, devices or sockets",
            Self::Again => "files found before",
        }
    }
}

/// A file, and how a source calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPath {
    /// Its path.
    pub path: PathBuf,
    /// Its path within the folder that was named.
    pub name: String,
}

/// Finds files; knows those it has found before.
#[derive(Debug, Default)]
pub struct FileWalk {
    seen: HashSet<Identity>,
    /// What was left out, and why.
    pub left_out: Vec<(String, LeftOut)>,
}

/// Tells a file from all others.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity {
    #[cfg(unix)]
    Inode(u64, u64),
    #[cfg(not(unix))]
    Path(PathBuf),
}

impl FileWalk {
    /// The path itself if it is a file, or the files under a folder, recursively in sorted order.
    ///
    /// # Errors
    /// If the path or a folder in it cannot be read, or is a folder of prepared tokens.
    pub fn path(&mut self, root: &Path) -> Result<Vec<FoundPath>> {
        let metadata = fs::metadata(root).map_err(|error| unreadable(root, error))?;
        let mut found = Vec::new();
        if metadata.is_dir() {
            if PreparedFolder::is_one(root) {
                return Err(Error::Prepare {
                    place: root.display().to_string(),
                    reason: "it is a folder of prepared tokens".to_owned(),
                    hint: Some("train on it with weal new --data".into()),
                });
            }
            let mut visit = Visit {
                walk: self,
                pattern: None,
                found: &mut found,
            };
            visit.folder(root, Path::new(""), true)?;
        } else {
            let name = root
                .file_name()
                .map_or(root, Path::new)
                .display()
                .to_string();
            self.take(root, name, &mut found)?;
        }
        Ok(found)
    }

    /// The files that a pattern matches, and those under folders that it matches.
    ///
    /// # Errors
    /// If it is no pattern, or a folder cannot be read.
    pub fn pattern(&mut self, pattern: &str) -> Result<Vec<FoundPath>> {
        let wrong = |error| Error::prepare(pattern, error);
        let all: Vec<Component<'_>> = Path::new(pattern).components().collect();
        let wild = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(WILD);
        let first = all.iter().position(wild).unwrap_or(all.len());
        let base: PathBuf = all[..first].iter().collect();
        let rest: PathBuf = all[first..].iter().collect();
        let base = if first == 0 { PathBuf::from(".") } else { base };
        if !base.is_dir() {
            return Ok(Vec::new());
        }
        let parts = || rest.iter().map(OsStr::to_string_lossy);
        let pattern = WalkPattern {
            whole: Pattern::new(&rest.to_string_lossy()).map_err(wrong)?,
            depth: all.len() - first,
            recursive: parts().any(|part| part == "**"),
            hidden: parts().any(|part| part.starts_with('.')),
            literal: !parts().next_back().unwrap_or_default().contains(WILD),
        };
        let mut found = Vec::new();
        let mut visit = Visit {
            walk: self,
            pattern: Some(&pattern),
            found: &mut found,
        };
        visit.folder(&base, Path::new(""), false)?;
        Ok(found)
    }

    /// Adds a file that was not found before.
    fn take(&mut self, path: &Path, name: String, found: &mut Vec<FoundPath>) -> Result<()> {
        if self.seen.insert(identity(path)?) {
            let path = path.to_owned();
            found.push(FoundPath { path, name });
        } else {
            self.left_out.push((name, LeftOut::Again));
        }
        Ok(())
    }
}

const WILD: [char; 3] = ['*', '?', '['];
const EXACT: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Whether a path matches a pattern, by the rules of a shell.
pub(super) fn matches(pattern: &Pattern, path: &str) -> bool {
    pattern.matches_with(path, EXACT)
}

struct WalkPattern {
    whole: Pattern,
    /// Folders and file name in it.
    depth: usize,
    /// Whether it has `**`.
    recursive: bool,
    /// Whether it names hidden entries.
    hidden: bool,
    /// Whether it names its files in full.
    literal: bool,
}

struct Visit<'a> {
    walk: &'a mut FileWalk,
    pattern: Option<&'a WalkPattern>,
    found: &'a mut Vec<FoundPath>,
}

impl Visit<'_> {
    /// Adds the files of a folder. `name` is its path from where the walk began; all are wanted if
    /// it is.
    fn folder(&mut self, path: &Path, name: &Path, wanted: bool) -> Result<()> {
        let entries: io::Result<Vec<_>> = fs::read_dir(path).and_then(Iterator::collect);
        let mut entries = entries.map_err(|error| unreadable(path, error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            self.entry(&entry.path(), &name.join(entry.file_name()), wanted)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path, wanted: bool) -> Result<()> {
        let text = name.to_string_lossy();
        let wanted = wanted
            || self
                .pattern
                .is_some_and(|pattern| matches(&pattern.whole, &text));
        let deeper = wanted
            || self.pattern.is_some_and(|pattern| {
                pattern.recursive || name.components().count() < pattern.depth
            });
        let file = name.file_name().unwrap_or_default().to_string_lossy();
        if file.starts_with('.') && !self.pattern.is_some_and(|pattern| pattern.hidden) {
            return self.leave(wanted || deeper, &text, LeftOut::Hidden);
        }
        let kind = fs::symlink_metadata(path).map_err(|error| unreadable(path, error))?;
        let link = kind.is_symlink();
        let Ok(kind) = fs::metadata(path) else {
            return self.leave(wanted, &text, LeftOut::DeadLink);
        };
        if kind.is_dir() {
            let why = match () {
                () if link => LeftOut::FolderLink,
                () if PreparedFolder::is_one(path) => LeftOut::Prepared,
                () if deeper => return self.folder(path, name, wanted),
                () => return Ok(()),
            };
            return self.leave(deeper, &text, why);
        }
        let literal = self.pattern.is_some_and(|pattern| pattern.literal);
        match () {
            () if !wanted => Ok(()),
            () if !kind.is_file() => self.leave(true, &text, LeftOut::NoFile),
            () if !literal && is_metadata(&file) => self.leave(true, &text, LeftOut::Metadata),
            () => self.walk.take(path, text.into_owned(), self.found),
        }
    }

    fn leave(&mut self, told: bool, name: &str, why: LeftOut) -> Result<()> {
        if told {
            self.walk.left_out.push((name.to_owned(), why));
        }
        Ok(())
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
    Ok(Identity::Inode(metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Result<Identity> {
    let whole = path
        .canonicalize()
        .map_err(|error| unreadable(path, error))?;
    Ok(Identity::Path(whole))
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::DataUnreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "a/one.jsonl",
            "a/b/two.jsonl",
            "three.jsonl",
            "._three.jsonl",
            ".git/x.jsonl",
            "README.md",
            "a/tokenizer.json",
            "tokens/index.json",
            "tokens/shards/x.jsonl",
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        symlink(".", dir.path().join("loop")).unwrap();
        symlink("nowhere.jsonl", dir.path().join("dead.jsonl")).unwrap();
        symlink("three.jsonl", dir.path().join("zz.jsonl")).unwrap();
        fs::hard_link(dir.path().join("a/one.jsonl"), dir.path().join("y.jsonl")).unwrap();
        UnixListener::bind(dir.path().join("s.jsonl")).unwrap();
        dir
    }

    fn names(found: Vec<FoundPath>) -> Vec<String> {
        found.into_iter().map(|found| found.name).collect()
    }

    #[test]
    fn folders_and_patterns_find_the_same_files_once() {
        let dir = folder();
        let all = ["a/b/two.jsonl", "a/one.jsonl", "three.jsonl"];
        let mut walk = FileWalk::default();
        assert_eq!(names(walk.path(dir.path()).unwrap()), all);
        let mut why: Vec<_> = walk.left_out.iter().map(|(_, why)| *why).collect();
        why.sort();
        use LeftOut::{Again, DeadLink, FolderLink, Hidden, Metadata, NoFile, Prepared};
        assert_eq!(
            why,
            [
                Hidden, Hidden, Metadata, Metadata, Prepared, FolderLink, DeadLink, NoFile, Again,
                Again
            ]
        );
        for pattern in ["**/*.jsonl", "**", "**/*", "*"] {
            let pattern = dir.path().join(pattern).display().to_string();
            let found = FileWalk::default().pattern(&pattern).unwrap();
            assert_eq!(names(found), all, "{pattern}");
        }
        for (pattern, found) in [
            ("th*.jsonl", vec!["three.jsonl"]),
            ("a/*.jsonl", vec!["one.jsonl"]),
            ("*/b", vec!["a/b/two.jsonl"]),
            (".git/*", vec!["x.jsonl"]),
            ("**/.git/*", vec![".git/x.jsonl"]),
            ("*/tokenizer.json", vec!["a/tokenizer.json"]),
            ("no/*", vec![]),
        ] {
            let pattern = dir.path().join(pattern).display().to_string();
            assert_eq!(
                names(FileWalk::default().pattern(&pattern).unwrap()),
                found,
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_file_that_is_named_is_taken_whatever_its_name_and_once() {
        let dir = folder();
        let mut walk = FileWalk::default();
        for (name, found) in [("README.md", 1), ("._three.jsonl", 1), ("zz.jsonl", 1)] {
            assert_eq!(walk.path(&dir.path().join(name)).unwrap().len(), found);
        }
        let found = walk.path(&dir.path().join("loop")).unwrap();
        assert_eq!(names(found), ["a/b/two.jsonl", "a/one.jsonl"]);
        assert!(walk.path(&dir.path().join("dead.jsonl")).is_err());
        let why = walk
            .path(&dir.path().join("tokens"))
            .unwrap_err()
            .to_string();
        assert!(why.contains("prepared"), "{why}");
    }
}
