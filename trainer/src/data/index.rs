//! `index.json`: what a folder of prepared data holds.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::shard::{Shard, Width};
use crate::error::{Error, Result};
use crate::tokeniser::Tokeniser;

/// Name of the index in its folder.
pub(super) const INDEX: &str = "index.json";
/// Name of the folder of shards beside it.
pub(super) const SHARDS: &str = "shards";
/// Name of the tokeniser beside it, where there is one.
pub(super) const TOKENISER: &str = "tokenizer.json";

const FORMAT: &str = "commonweal tokens v1";

/// What a folder of prepared data holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedIndex {
    format: String,
    /// Token ids.
    pub vocabulary: u32,
    /// Bytes in which a token is kept: 2 or 4.
    pub token_bytes: u32,
    /// The token that ends each document, if there is one.
    pub end_of_text: Option<u32>,
    /// Share of the text that was to be held out, in parts per million.
    pub heldout_ppm: u32,
    /// What is learnt from.
    pub training: PreparedPart,
    /// What is measured on.
    pub heldout: PreparedPart,
    /// Where it came from.
    pub sources: Vec<PreparedSource>,
}

/// The shards of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedPart {
    /// Documents, or parts of long ones.
    pub documents: u64,
    /// Tokens, those that end documents included.
    pub tokens: u64,
    /// Bytes of text.
    pub text_bytes: u64,
    /// The shards, in order.
    pub shards: Vec<PreparedShard>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedShard {
    /// Blob hash of the file, which is also its name.
    #[serde(with = "hash")]
    pub hash: [u8; 32],
    /// Length of the file.
    pub bytes: u64,
    /// Tokens in it.
    pub tokens: u64,
}

/// One file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedSource {
    /// What it was called.
    pub name: String,
    /// Documents taken from it.
    pub documents: u64,
    /// Documents without any text.
    pub empty: u64,
    /// Records that could not be used; `bad-records.txt` names them.
    pub bad: u64,
    /// Bytes of text.
    pub text_bytes: u64,
}

/// A folder of prepared data.
#[derive(Clone, Debug)]
pub struct PreparedFolder {
    path: PathBuf,
    /// What it holds.
    pub index: PreparedIndex,
}

impl PreparedSource {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            documents: 0,
            empty: 0,
            bad: 0,
            text_bytes: 0,
        }
    }
}

impl PreparedIndex {
    pub(super) fn new(
        tokeniser: &Tokeniser,
        width: Width,
        end_of_text: Option<u32>,
        heldout_ppm: u32,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            vocabulary: tokeniser.vocabulary() as u32,
            token_bytes: width.bytes() as u32,
            end_of_text,
            heldout_ppm,
            training: PreparedPart::default(),
            heldout: PreparedPart::default(),
            sources: Vec::new(),
        }
    }
}

impl PreparedFolder {
    /// Whether a path is such a folder.
    pub fn is_one(path: &Path) -> bool {
        path.join(INDEX).is_file() && path.join(SHARDS).is_dir()
    }

    /// Reads the index; the shards are not looked at.
    ///
    /// # Errors
    /// Where there is none, or it is not one.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join(INDEX);
        let wrong = |reason: String| Error::Prepare {
            place: file.display().to_string(),
            reason,
        };
        let text = fs::read(&file).map_err(|error| wrong(error.to_string()))?;
        let index: PreparedIndex = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("{error}; prepare the data again")))?;
        if index.format != FORMAT {
            return Err(wrong(format!(
                "its format is {:?}; {FORMAT:?} is read",
                index.format
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            index,
        })
    }

    /// The tokeniser that made the tokens, as its `tokenizer.json`; none is one token a byte.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn tokeniser(&self) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(TOKENISER);
        match fs::read(&path) {
            Ok(json) => Ok(Some(json)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::DataUnreadable { path, source }),
        }
    }

    /// Where a shard lies.
    pub fn shard(&self, shard: &PreparedShard) -> PathBuf {
        self.path.join(SHARDS).join(shard_name(&shard.hash))
    }

    /// Reads every shard and checks it. `told` hears bytes done and bytes in all.
    ///
    /// # Errors
    /// The first shard that is not what the index says.
    pub fn check(&self, told: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let shards = || {
            self.index
                .training
                .shards
                .iter()
                .chain(&self.index.heldout.shards)
        };
        let (mut done, total) = (0, shards().map(|shard| shard.bytes).sum());
        told(done, total);
        for listed in shards() {
            let path = self.shard(listed);
            let shard = Shard::open(&path, &listed.hash, self.index.vocabulary as usize)?;
            if shard.tokens() != listed.tokens {
                let reason = format!(
                    "it holds {} tokens, and the index says {}",
                    shard.tokens(),
                    listed.tokens
                );
                return Err(Error::Shard { path, reason });
            }
            done += listed.bytes;
            told(done, total);
        }
        Ok(())
    }
}

pub(super) fn shard_name(hash: &[u8; 32]) -> String {
    format!("{}.tokens", hex::encode(hash))
}

/// A hash as its hexadecimal digits.
mod hash {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(hash))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut hash)
            .map_err(D::Error::custom)?;
        Ok(hash)
    }
}
