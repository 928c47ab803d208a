//! A run on data that is tokens already, as `weal data prepare` makes them.

use std::path::PathBuf;

use weal_proto::BlobHash;
use weal_proto::manifest::{Data, PreparedTokens, TokenPart, TokenShard};
use weal_trainer::{PreparedFolder, PreparedPart, PreparedShard};

use crate::error::{Error, ErrorKind, Result};

/// A folder of prepared data that a run is to train on.
pub struct Prepared {
    folder: PreparedFolder,
    place: PathBuf,
}

impl Prepared {
    /// The one folder of prepared data among the paths, if there is one.
    ///
    /// # Errors
    /// When there is something else beside it, or its index cannot be read.
    pub fn among(paths: &[PathBuf]) -> Result<Option<Self>> {
        let Some(place) = paths.iter().find(|path| PreparedFolder::is_one(path)) else {
            return Ok(None);
        };
        if paths.len() > 1 {
            return Err(Error::data(format!(
                "{}: prepared data stands alone; prepare all of it together, or give this folder only",
                place.display()
            )));
        }
        let folder =
            PreparedFolder::open(place).map_err(|error| Error::of(ErrorKind::Data, error))?;
        Ok(Some(Self {
            folder,
            place: place.clone(),
        }))
    }

    /// The tokeniser of the run: the one that made the tokens. Another one that is asked for is
    /// refused.
    pub fn tokeniser(&self, wanted: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        let own = self
            .folder
            .tokeniser()
            .map_err(|error| Error::of(ErrorKind::Data, error))?;
        if wanted.is_some() && wanted != own {
            return Err(Error::data(format!(
                "{}: its tokens are of another tokeniser than the run's; prepare the data with that one, by --tokeniser",
                self.place.display()
            )));
        }
        Ok(own)
    }

    pub fn end_of_text(&self) -> Option<u32> {
        self.folder.index.end_of_text
    }

    pub fn data(&self) -> Data {
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

    pub fn shards(&self) -> Vec<(PathBuf, BlobHash)> {
        token_shards(&self.folder)
    }
}

/// The files of a folder of prepared data.
pub fn token_shards(folder: &PreparedFolder) -> Vec<(PathBuf, BlobHash)> {
    let index = &folder.index;
    let shards = index.training.shards.iter().chain(&index.heldout.shards);
    shards
        .map(|shard| (folder.shard(shard), shard.hash.into()))
        .collect()
}

/// Refuses tokens that are too few for one window.
pub fn check_length(tokens: &PreparedTokens, context: u32) -> Result<()> {
    for (name, part) in [
        ("training", &tokens.training),
        ("held-out", &tokens.heldout),
    ] {
        let count: u64 = part.shards.iter().map(|shard| shard.tokens).sum();
        if count <= u64::from(context) {
            return Err(Error::data(format!(
                "the {name} part has {count} tokens, too few for a context of {context}; prepare more data, or hold out more \
                 with --heldout"
            )));
        }
    }
    Ok(())
}
