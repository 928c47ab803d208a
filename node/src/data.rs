//! Text files on their way into a run: each becomes a source of the manifest, with name, length
//! and hash.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use weal_proto::limits::{NAME_BYTES, SOURCES};
use weal_proto::manifest::DataSource;
use weal_proto::{BlobHash, Outline};
use weal_trainer::{FileWalk, LeftOut, PlainText, check_text, read_text};

use crate::error::{Error, ErrorKind, Result};
use crate::terminal::say;

/// Number of files left out, or read otherwise than it seems, that are named.
const FILES_SHOWN: usize = 5;

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
    /// What is read otherwise than it seems.
    note: Option<String>,
}

impl FoundFile {
    /// The first bytes of the file, at most this many.
    pub(crate) fn head(&self, most: u64) -> std::io::Result<Vec<u8>> {
        let mut head = Vec::new();
        File::open(&self.path)?.take(most).read_to_end(&mut head)?;
        Ok(head)
    }
}

/// Reads files, and the files in folders: recursively, sorted by name, without hidden ones and
/// those that describe a data set.
///
/// # Errors
/// When a file cannot be read, is empty or no text, or there are none or too many.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<TextFile>> {
    let (files, left_out) = walk(paths)?;
    for (name, why) in left_out.iter().take(FILES_SHOWN) {
        say!(
            "warning: {name}: left out of the data, being among {}",
            why.name()
        );
    }
    if left_out.len() > FILES_SHOWN {
        let more = left_out.len() - FILES_SHOWN;
        say!("warning: {more} more files or folders were left out of the data");
    }
    tell_notes(&files);
    files.iter().map(FoundFile::read).collect()
}

/// Finds the files that [`read`] would read, and looks at their starts only.
///
/// # Errors
/// As for [`read`].
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<FoundFile>> {
    Ok(walk(paths)?.0)
}

/// Says which files are read otherwise than they seem.
pub(crate) fn tell_notes(files: &[FoundFile]) {
    let mut notes = files.iter().filter_map(|file| file.note.as_ref());
    for note in notes.by_ref().take(FILES_SHOWN) {
        say!("warning: {note}");
    }
    let more = notes.count();
    if more > 0 {
        say!("warning: {more} more files are read otherwise than it seems");
    }
}

/// The files, and what was left out.
type Found = (Vec<FoundFile>, Vec<(String, LeftOut)>);

fn walk(paths: &[PathBuf]) -> Result<Found> {
    let mut files = Vec::new();
    let mut walk = FileWalk::default();
    for path in paths {
        let before = (files.len(), walk.left_out.len());
        let found = walk.path(path).map_err(unusable)?;
        files.extend(found.into_iter().map(|found| found.path));
        if files.len() == before.0 && walk.left_out.len() == before.1 {
            return Err(
                Error::data(format!("{}: no files in this folder", path.display()))
                    .with_hint("choose a folder with text files for --data"),
            );
        }
    }
    if files.is_empty() && !walk.left_out.is_empty() {
        return Err(Error::data("every file of the data was left out")
            .with_hint("name a file itself with --data, and it is taken"));
    }
    if files.len() > SOURCES {
        let count = files.len();
        return Err(
            Error::data(format!("{count} files; a run takes at most {SOURCES}"))
                .with_hint("join some of the files"),
        );
    }
    let files = files
        .into_iter()
        .map(FoundFile::at)
        .collect::<Result<_>>()?;
    Ok((files, walk.left_out))
}

fn unusable(error: weal_trainer::Error) -> Error {
    Error::from(error).with_kind(ErrorKind::Data)
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<'_> {
    move |error| {
        Error::data(format!("{}: cannot be read", path.display()))
            .caused_by(error)
            .with_hint("check the path given with --data, and its permissions")
    }
}

impl FoundFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn at(path: PathBuf) -> Result<Self> {
        let bytes = fs::metadata(&path).map_err(unreadable(&path))?.len();
        if bytes == 0 {
            return Err(Error::data(format!("{}: empty", path.display()))
                .with_hint("leave the file out of --data"));
        }
        let note = check_text(&path).map_err(unusable)?;
        Ok(Self { path, bytes, note })
    }

    fn read(&self) -> Result<TextFile> {
        // The note was told when the file was found.
        let PlainText { text, note: _ } = read_text(&self.path).map_err(unusable)?;
        let hash = Outline::of(&text).hash();
        let source = DataSource {
            name: self.name(),
            hash,
            bytes: text.len() as u64,
        };
        Ok(TextFile { source, text })
    }

    /// The source as it would be, but for its hash, which is not the content's; with a byte order
    /// mark, it is shorter.
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
            (dir.path().join("nowhere"), "cannot read"),
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
    fn packed_and_binary_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("a.txt", &b"\x1f\x8b\x08\0"[..]),
            ("b.jsonl", b"\x28\xb5\x2f\xfd"),
            ("c", b"\x89PNG\r\n\x1a\n\0"),
            ("d.txt", b"caf\xe9"),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            for error in [
                read(std::slice::from_ref(&path)).err().unwrap(),
                find(std::slice::from_ref(&path)).err().unwrap(),
            ] {
                assert_eq!(error.code(), 4);
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_text() {
        let dir = tempfile::tempdir().unwrap();
        let [plain, marked] = ["a.txt", "b.txt"].map(|name| dir.path().join(name));
        fs::write(&plain, "one").unwrap();
        fs::write(&marked, "\u{feff}one").unwrap();
        let files = read(&[plain, marked]).unwrap();
        assert_eq!(files[0].text, files[1].text);
        assert_eq!(files[0].source.hash, files[1].source.hash);
    }

    #[cfg(unix)]
    #[test]
    fn a_walk_ends_and_finds_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.txt"), "one").unwrap();
        fs::write(dir.path().join("LICENSE"), "MIT").unwrap();
        for (to, from) in [(".", "loop"), ("nowhere", "dead"), ("a.txt", "same.txt")] {
            std::os::unix::fs::symlink(to, dir.path().join(from)).unwrap();
        }
        assert_eq!(read(&[dir.path().to_owned()]).unwrap().len(), 1);
    }

    #[test]
    fn records_that_are_taken_for_plain_text_are_noted_when_they_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let record = "{\"text\": \"one\"}\n";
        for (name, text, noted) in [
            ("a.jsonl", record, true),
            ("b.txt", record, true),
            ("c.txt", "one", false),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            let found = find(&[path]).unwrap().remove(0);
            assert_eq!(found.note.is_some(), noted, "{:?}", found.note);
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
