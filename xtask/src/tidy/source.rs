//! The text files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

use super::lexer::{Kind, kinds};
use crate::Outcome;

/// Folders that hold nothing written by hand.
const SKIPPED: [&str; 5] = ["target", "corpus", "artifacts", "node_modules", "dist"];
/// Hidden folders that belong to the project.
const HIDDEN: [&str; 4] = [".cargo", ".ci", ".config", ".github"];
/// Files that are read.
const EXTENSIONS: [&str; 9] = [
    "rs", "md", "toml", "js", "html", "css", "sh", "yml", "proto",
];

/// A text file.
pub(crate) struct Source {
    /// Path relative to the repository, with forward slashes.
    pub path: String,
    /// Its content.
    pub text: String,
    /// What each byte of `text` belongs to; all code unless it is Rust.
    pub kinds: Vec<Kind>,
}

impl Source {
    /// A file with this content.
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let kinds = if path.ends_with(".rs") {
            kinds(&text)
        } else {
            vec![Kind::Code; text.len()]
        };
        Self { path, text, kinds }
    }

    /// Whether the file's name ends so.
    pub(crate) fn is(&self, extension: &str) -> bool {
        let path = Path::new(&self.path);
        path.extension().is_some_and(|found| found == extension)
    }

    /// The text with everything but code replaced by spaces; lines and columns stay.
    pub(crate) fn code(&self) -> String {
        let bytes = self.text.bytes().zip(&self.kinds);
        let code = bytes.map(|(byte, kind)| match kind {
            Kind::Code => byte,
            _ if byte == b'\n' => byte,
            _ => b' ',
        });
        String::from_utf8_lossy(&code.collect::<Vec<_>>()).into_owned()
    }

    /// The number of the line that holds the byte at `offset`, from 1.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Every text file below the current folder, by path.
pub(crate) fn all() -> Outcome<Vec<Source>> {
    let mut sources = Vec::new();
    collect(Path::new("."), &mut sources)?;
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(sources)
}

fn collect(folder: &Path, sources: &mut Vec<Source>) -> Outcome {
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let file_type = entry.file_type().map_err(failed)?;
        if file_type.is_dir() {
            let hidden = name.starts_with('.') && !HIDDEN.contains(&name.as_str());
            if !hidden && !SKIPPED.contains(&name.as_str()) {
                collect(&path, sources)?;
            }
        } else if file_type.is_file() && is_text(&path) {
            sources.push(read(path)?);
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    EXTENSIONS.contains(&extension.as_ref())
}

fn read(path: PathBuf) -> Outcome<Source> {
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let relative = path.strip_prefix(".").unwrap_or(&path);
    Ok(Source::new(
        relative.to_string_lossy().replace('\\', "/"),
        text,
    ))
}
