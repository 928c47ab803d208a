//! The text files of a run.

use std::path::PathBuf;

use weal_proto::manifest::DataSource;
use weal_trainer::{LostLetters, Tokeniser};

use crate::data::{self, FoundFile, TextFile};
use crate::error::{Error, ErrorKind, Result};
use crate::notes::tell_lost;

/// What to do with the texts that a run names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Texts {
    /// Read and hash them.
    Read,
    /// Find them, without reading them.
    Find,
}

impl Texts {
    pub(super) fn sources(
        self,
        paths: &[PathBuf],
        files: &mut Vec<Vec<u8>>,
    ) -> Result<Vec<DataSource>> {
        match self {
            Self::Find => {
                let found = data::find(paths)?;
                data::tell_notes(&found);
                Ok(found.iter().map(FoundFile::unread_source).collect())
            }
            Self::Read => {
                let mut sources = Vec::new();
                for TextFile { source, text } in data::read(paths)? {
                    sources.push(source);
                    files.push(text);
                }
                Ok(sources)
            }
        }
    }
}

/// Files, and bytes of each, that are looked at before a run begins.
const SAMPLED: (usize, u64) = (16, 1 << 20);

/// Tells how many letters at the start of the texts the tokeniser cannot read.
pub(super) fn tell_lost_letters(json: &[u8], paths: &[PathBuf]) -> Result<()> {
    let tokeniser = Tokeniser::from_bytes(json)
        .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
    let (files, most) = SAMPLED;
    let mut lost = LostLetters::default();
    for file in data::find(paths)?.iter().take(files) {
        // A file that cannot be read, or holds no text, is told where it is read.
        let head = file.head(most).unwrap_or_default();
        let text = head.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let found = tokeniser.lost_letters(text.as_bytes());
        lost.add(found.map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?);
    }
    tell_lost(lost);
    Ok(())
}
