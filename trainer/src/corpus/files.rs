//! Text from files and folders, in the same order on every machine.

use std::path::Path;

use crate::data::{FileWalk, read_text};
use crate::error::{Error, Result};

/// The text of a file, or of each file of a folder, sorted by path, without empty ones.
pub(super) fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    for file in FileWalk::default().path(path)? {
        let text = read_text(&file.path)?.text;
        if !text.is_empty() {
            texts.push(text);
        }
    }
    if texts.is_empty() {
        return Err(Error::DataEmpty {
            path: path.to_owned(),
        });
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use std::fs;
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
        assert_eq!(read(&folder.0).unwrap(), [b"1", b"2", b"3", b"4"]);
    }

    #[test]
    fn a_missing_path_is_named() {
        let message = with_causes(&read(Path::new("/nowhere/text")).unwrap_err());
        assert!(
            message.contains("/nowhere/text") && message.contains("No such file"),
            "{message}"
        );
    }

    #[test]
    fn an_empty_folder_is_named() {
        let folder = Folder::new("empty", &[("nothing.txt", b"")]);
        let message = read(&folder.0).unwrap_err().to_string();
        assert!(message.contains("holds no text"), "{message}");
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let folder = Folder::new("binary", &[("x.bin", b"ab\xff\0")]);
        let message = read(&folder.0).unwrap_err().to_string();
        assert!(
            message.contains("x.bin as text: it is not text"),
            "{message}"
        );
    }
}
