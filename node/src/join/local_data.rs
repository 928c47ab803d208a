//! Files that are already on this machine and need not be fetched from peers.

use std::path::PathBuf;

use weal_proto::BlobHash;
use weal_trainer::PreparedFolder;

use super::{Progress, Tell};
use crate::data::{self, TextFile};
use crate::error::Result;
use crate::new_run::token_shards;
use crate::plan::NamedBlob;
use crate::store::blobs::{Blobs, Keep};

/// Texts, and shards of prepared tokens.
#[derive(Debug, Default)]
pub struct LocalData {
    texts: Vec<TextFile>,
    shards: Vec<(PathBuf, BlobHash)>,
}

impl LocalData {
    /// The texts and the prepared tokens at these paths.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let (prepared, texts): (Vec<_>, Vec<_>) = paths
            .iter()
            .cloned()
            .partition(|path| PreparedFolder::is_one(path));
        let mut local = Self {
            texts: data::read(&texts)?,
            shards: Vec::new(),
        };
        for path in prepared {
            local
                .shards
                .extend(token_shards(&PreparedFolder::open(&path)?));
        }
        Ok(local)
    }

    /// Stores what the run names, and leaves the rest alone.
    pub(super) fn store(self, named: &[NamedBlob], blobs: &Blobs, tell: Tell<'_>) -> Result<()> {
        let tell = |text: String| tell(Progress::Note(&text));
        let is_named = |hash: &BlobHash| named.iter().any(|blob| blob.hash == *hash);
        for TextFile { source, text } in self.texts {
            if is_named(&source.hash) {
                tell(format!("{}: using your copy", source.name));
                blobs.put(&text, Keep::Pinned, false)?;
            } else {
                tell(format!("{}: not part of this run, ignored", source.name));
            }
        }
        let (used, ignored): (Vec<_>, Vec<_>) = self
            .shards
            .into_iter()
            .partition(|(_, hash)| is_named(hash));
        if !used.is_empty() || !ignored.is_empty() {
            tell(format!(
                "shards of tokens: using {} of yours, ignoring {}",
                used.len(),
                ignored.len()
            ));
        }
        used.iter()
            .try_for_each(|(path, hash)| blobs.put_file(path, hash))
    }
}
