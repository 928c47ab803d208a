//! The text files of a run.

use std::path::PathBuf;

use weal_proto::manifest::DataSource;

use crate::data::{self, FoundFile, TextFile};
use crate::error::Result;

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
