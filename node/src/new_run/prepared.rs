//! Training text that is tokenised already, by `weal data prepare`.

use std::path::PathBuf;

use weal_proto::BlobHash;
use weal_proto::manifest::{Data, PreparedTokens, TokenPart, TokenShard};
use weal_trainer::{PreparedFolder, PreparedPart, PreparedShard};

use crate::error::{Error, ErrorKind, Result};

/// A folder of prepared data to train on.
pub(super) struct Prepared {
    folder: PreparedFolder,
    path: PathBuf,
}

impl Prepared {
    /// The folder of prepared data among the paths, if any.
    ///
    /// # Errors
    /// When there are other paths beside it, or its index cannot be read.
    pub(super) fn among(paths: &[PathBuf]) -> Result<Option<Self>> {
        let Some(path) = paths.iter().find(|path| PreparedFolder::is_one(path)) else {
            return Ok(None);
        };
        if paths.len() > 1 {
            return Err(Error::data(format!(
                "{}: prepared data cannot be combined with other data",
                path.display()
            ))
            .with_hint("give this folder alone, or prepare all data together"));
        }
        let folder = PreparedFolder::open(path)
            .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
        Ok(Some(Self {
            folder,
            path: path.clone(),
        }))
    }

    /// The tokeniser that made the tokens; `None` means one token per byte.
    ///
    /// # Errors
    /// When `wanted` is another tokeniser.
    pub(super) fn tokeniser(&self, wanted: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        let present = self
            .folder
            .tokeniser()
            .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
        if wanted.is_some() && wanted != present {
            return Err(Error::data(format!(
                "{}: prepared with another tokeniser than the run's",
                self.path.display()
            ))
            .with_hint("prepare the data with --tokeniser and the run's tokenizer.json"));
        }
        Ok(present)
    }

    pub(super) fn end_of_text(&self) -> Option<u32> {
        self.folder.index.end_of_text
    }

    pub(super) fn data(&self) -> Data {
        let shard = |s: &PreparedShard| TokenShard {
            hash: s.hash.into(),
            bytes: s.bytes,
            tokens: s.tokens,
        };
        let part = |part: &PreparedPart| TokenPart {
            text_bytes: part.text_bytes,
            shards: part.shards.iter().map(shard).collect(),
        };
        let index = &self.folder.index;
        let (training, heldout) = (part(&index.training), part(&index.heldout));
        Data::Prepared(PreparedTokens {
            token_bytes: index.token_bytes,
            training,
            heldout,
        })
    }

    pub(super) fn shards(&self) -> Vec<(PathBuf, BlobHash)> {
        token_shards(&self.folder)
    }
}

/// The files of a folder of prepared data, with their hashes.
pub(crate) fn token_shards(folder: &PreparedFolder) -> Vec<(PathBuf, BlobHash)> {
    let index = &folder.index;
    let shards = index.training.shards.iter().chain(&index.heldout.shards);
    shards
        .map(|shard| (folder.shard(shard), shard.hash.into()))
        .collect()
}

/// Refuses tokens that are too few for one window.
pub(super) fn check_length(tokens: &PreparedTokens, context: u32) -> Result<()> {
    for (name, part) in [
        ("training", &tokens.training),
        ("held-out", &tokens.heldout),
    ] {
        let count: u64 = part.shards.iter().map(|shard| shard.tokens).sum();
        if count <= u64::from(context) {
            return Err(Error::data(format!(
                "the {name} part has {count} tokens, too few for a context of {context}"
            ))
            .with_hint("prepare more data, or hold out more of it with --heldout"));
        }
    }
    Ok(())
}
