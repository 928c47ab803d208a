//! Text from files and folders, in the same order on every machine.

use std::fs;
use std::io;
use std::path::Path;

use crate::data::files_under;
use crate::error::{Error, Result};

/// The text of a file, or of all files of a folder, sorted by path and concatenated.
///
/// With `must_be_text`, a file that is not UTF-8 is refused with the offset of its first bad byte.
pub(super) fn read(path: &Path, must_be_text: bool) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for file in files_under(path)? {
        let bytes = fs::read(&file).map_err(|error| unreadable(&file, error))?;
        if must_be_text && let Err(error) = std::str::from_utf8(&bytes) {
            return Err(Error::DataNotText {
                path: file,
                offset: error.valid_up_to(),
            });
        }
        text.extend_from_slice(&bytes);
    }
    if text.is_empty() {
        return Err(Error::DataEmpty {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::DataUnreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::error::with_causes;

    /// A folder that is removed at the end of the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
            let folder =
                std::env::temp_dir().join(format!("weal-corpus-{}-{name}", std::process::id()));
            for (file, contents) in files {
                let file = folder.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, contents).unwrap();
            }
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_folder_is_read_recursively_in_sorted_order_without_hidden_files() {
        let files: [(&str, &[u8]); 5] = [
            ("b.txt", b"2"),
            ("a/z.txt", b"1"),
            ("c/d/e.txt", b"4"),
            ("c/a.txt", b"3"),
            (".git/x", b"no"),
        ];
        let folder = Folder::new("sorted", &files);
        assert_eq!(read(&folder.0, true).unwrap(), b"1234");
    }

    #[test]
    fn a_missing_path_is_named() {
        let message = with_causes(&read(Path::new("/nowhere/text"), false).unwrap_err());
        assert!(
            message.contains("/nowhere/text") && message.contains("No such file"),
            "{message}"
        );
    }

    #[test]
    fn an_empty_folder_is_named() {
        let folder = Folder::new("empty", &[("nothing.txt", b"")]);
        let message = read(&folder.0, false).unwrap_err().to_string();
        assert!(message.contains("holds no text"), "{message}");
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_only_if_text_is_needed() {
        let folder = Folder::new("binary", &[("x.bin", b"ab\xff")]);
        assert_eq!(read(&folder.0, false).unwrap(), b"ab\xff");
        let message = read(&folder.0, true).unwrap_err().to_string();
        assert!(
            message.contains("x.bin is not UTF-8 from byte 2 on"),
            "{message}"
        );
    }
}
