//! Training text that is tokenised already, by `weal data prepare`.

use std::path::PathBuf;

use weal_proto::BlobHash;
use weal_proto::manifest::{Data, PreparedTokens, TokenPart, TokenShard};
use weal_trainer::{PreparedFolder, PreparedPart, PreparedShard, Tokeniser};

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

    /// The tokeniser that made the tokens.
    ///
    /// # Errors
    /// When `wanted` is another tokeniser.
    pub(super) fn tokeniser(&self, wanted: Option<Tokeniser>) -> Result<Tokeniser> {
        let present = self
            .folder
            .tokeniser()
            .map_err(|error| Error::from(error).with_kind(ErrorKind::Data))?;
        if wanted.is_some_and(|wanted| json(&wanted) != json(&present)) {
            return Err(Error::data(format!(
                "{}: prepared with another tokeniser than the run's",
                self.path.display()
            ))
            .with_hint("prepare the data with --tokeniser and the run's tokenizer.json"));
        }
        Ok(present)
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

fn json(tokeniser: &Tokeniser) -> &[u8] {
    match tokeniser {
        Tokeniser::Bytes => &[],
        Tokeniser::File(file) => file.json(),
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
