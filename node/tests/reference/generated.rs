//! Files that are generated from the program and compared with it.

use std::fs;
use std::path::Path;

/// Asserts that a file holds this text. With `WEAL_BLESS=1`, writes the file instead.
pub(crate) fn assert_file(path: &Path, text: &str) {
    if std::env::var_os("WEAL_BLESS").is_some() {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(path, text).unwrap();
        return;
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    let differing = written
        .lines()
        .zip(text.lines())
        .position(|(written, current)| written != current)
        .unwrap_or_else(|| written.lines().count().min(text.lines().count()));
    let line = |text: &str| text.lines().nth(differing).unwrap_or("(end)").to_owned();
    assert!(
        written == text,
        "{} differs from the program in line {}:\n  file:    {}\n  program: {}\n\
         rewrite it with: WEAL_BLESS=1 cargo test -p weal --test reference",
        path.display(),
        differing + 1,
        line(&written),
        line(text)
    );
}
