//! The page's password: where it is, and what it may be.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::settings::PageSettings;

/// The shortest password.
const SHORTEST: usize = 12;

impl PageSettings {
    /// Where the password is, if there is one.
    pub(crate) fn password_path(&self, folder: &Folder) -> Option<PathBuf> {
        let file = &self.password_file;
        (!file.as_os_str().is_empty()).then(|| folder.path().join(file))
    }

    /// The password, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no password.
    pub(crate) fn password(&self, folder: &Folder) -> Result<Option<String>> {
        self.password_path(folder)
            .map(|path| read_password(&path))
            .transpose()
    }
}

/// The password in a file, without the end of its line.
///
/// # Errors
/// When the file cannot be read, or holds no password.
pub(crate) fn read_password(path: &Path) -> Result<String> {
    let wrong = |why: &str| {
        Error::configuration(path.display(), why)
            .with_hint("make a new one, for example: openssl rand -hex 16 > page-password")
    };
    let text = fs::read_to_string(path)
        .map_err(|error| wrong("the page's password cannot be read").caused_by(error))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.len() < SHORTEST {
        return Err(wrong("the page's password is shorter than 12 characters"));
    }
    let is_printable = |byte: u8| byte.is_ascii_graphic();
    if !password.bytes().all(is_printable) {
        return Err(wrong(
            "the page's password may hold ASCII letters, digits and punctuation only",
        ));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_from_the_data_folder_without_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        fs::write(dir.path().join("secret"), "correct-horse-battery\r\n").unwrap();
        let settings = |file: &str| PageSettings {
            password_file: file.into(),
            ..PageSettings::default()
        };
        assert_eq!(settings("").password(&folder).unwrap(), None);
        let password = settings("secret").password(&folder).unwrap();
        assert_eq!(password.as_deref(), Some("correct-horse-battery"));
        assert!(settings("absent").password(&folder).is_err());
    }

    #[test]
    fn a_weak_or_unprintable_password_is_refused_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for text in [
            "",
            "\n",
            "elevenchars",
            "with a space in it",
            "pass\nword-of-two-lines",
        ] {
            fs::write(&path, text).unwrap();
            let error = read_password(&path).unwrap_err();
            let shown = format!("{error:#} {error:?}");
            assert_eq!(error.code(), 3);
            assert!(
                text.trim().is_empty() || !shown.contains(text.trim()),
                "{shown}"
            );
        }
    }
}
