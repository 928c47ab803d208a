//! A folder of prepared data and its `index.json`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::shard::Shard;
use super::shard_format::Width;
use crate::error::{Error, Result};
use crate::tokeniser::{SpecialTokens, Tokeniser, TokeniserSettings};

/// The index file.
pub(super) const INDEX: &str = "index.json";
/// The folder of shards beside the index.
pub(super) const SHARDS: &str = "shards";
/// The tokeniser beside the index, unless tokens are bytes.
pub(super) const TOKENISER: &str = "tokenizer.json";
/// The tokeniser's settings beside it.
pub(super) const SETTINGS: &str = "tokenizer_settings.json";

const FORMAT: &str = "commonweal tokens v1";

/// The contents of a folder of prepared data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedIndex {
    format: String,
    /// Tokens of the tokeniser.
    pub vocabulary: u32,
    /// Bytes per token: 2 or 4.
    pub token_bytes: u32,
    /// What the tokeniser's special tokens mean.
    pub special: SpecialTokens,
    /// The requested held-out share of the text, in parts per million.
    pub heldout_ppm: u32,
    /// The training part.
    pub training: PreparedPart,
    /// The held-out part.
    pub heldout: PreparedPart,
    /// The files that were read.
    pub sources: Vec<PreparedSource>,
}

/// The shards of one part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedPart {
    /// Documents, or sections of long ones.
    pub documents: u64,
    /// Tokens, including those after documents.
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
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// Tokens in it.
    pub tokens: u64,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedSource {
    /// Its name.
    pub name: String,
    /// Documents read from it.
    pub documents: u64,
    /// Empty documents.
    pub empty: u64,
    /// Unusable records; `bad-records.txt` lists them.
    pub bad: u64,
    /// Bytes of text.
    pub text_bytes: u64,
}

/// A folder of prepared data.
#[derive(Clone, Debug)]
pub struct PreparedFolder {
    path: PathBuf,
    /// Its contents.
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
    pub(super) fn new(tokeniser: &Tokeniser, width: Width, heldout_ppm: u32) -> Self {
        Self {
            format: FORMAT.to_owned(),
            vocabulary: tokeniser.vocabulary() as u32,
            token_bytes: width.bytes() as u32,
            special: tokeniser.special().clone(),
            heldout_ppm,
            training: PreparedPart::default(),
            heldout: PreparedPart::default(),
            sources: Vec::new(),
        }
    }
}

impl PreparedFolder {
    /// Whether a path is a folder of prepared data.
    pub fn is_one(path: &Path) -> bool {
        path.join(INDEX).is_file() && path.join(SHARDS).is_dir()
    }

    /// Reads the index. Does not check the shards; see [`Self::check`].
    ///
    /// # Errors
    /// If the index is missing, damaged, or of another format.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join(INDEX);
        let wrong = |reason: String| Error::Prepare {
            place: file.display().to_string(),
            reason,
            hint: Some("prepare the data again".into()),
        };
        let text = fs::read(&file).map_err(|source| Error::Read {
            path: file.clone(),
            source,
        })?;
        let index: PreparedIndex =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if index.format != FORMAT {
            return Err(wrong(format!(
                "its format is {:?}, not {FORMAT:?}",
                index.format
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            index,
        })
    }

    /// The tokeniser that made the tokens.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tokeniser(&self) -> Result<Tokeniser> {
        let Some(json) = self.beside(TOKENISER)? else {
            return Ok(Tokeniser::Bytes);
        };
        let tokeniser = Tokeniser::from_bytes(&json)?.with_special(self.index.special.clone());
        Ok(match self.beside(SETTINGS)? {
            Some(settings) => tokeniser.with_settings(TokeniserSettings::from_bytes(&settings)?),
            None => tokeniser,
        })
    }

    /// The bytes of a file beside the index, if there is one.
    fn beside(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::DataUnreadable { path, source }),
        }
    }

    /// The path of a shard.
    pub fn shard(&self, shard: &PreparedShard) -> PathBuf {
        self.path.join(SHARDS).join(shard_name(&shard.hash))
    }

    /// Reads and checks every shard. `progress` gets bytes done and bytes in total.
    ///
    /// # Errors
    /// [`Error::Shard`] for the first shard that is damaged or not the one listed.
    pub fn check(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let shards = || {
            self.index
                .training
                .shards
                .iter()
                .chain(&self.index.heldout.shards)
        };
        let (mut done, total) = (0, shards().map(|shard| shard.bytes).sum());
        progress(done, total);
        for listed in shards() {
            let path = self.shard(listed);
            let shard = Shard::verify(&path, &listed.hash, self.index.vocabulary as usize)?;
            if shard.tokens() != listed.tokens {
                let reason = format!(
                    "it holds {} tokens, but the index lists {}",
                    shard.tokens(),
                    listed.tokens
                );
                return Err(Error::Shard { path, reason });
            }
            done += listed.bytes;
            progress(done, total);
        }
        Ok(())
    }
}

pub(super) fn shard_name(hash: &[u8; 32]) -> String {
    format!("{}.tokens", hex::encode(hash))
}

/// (De)serialises a hash as hexadecimal digits.
mod hash {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        hash: &[u8; 32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut hash)
            .map_err(D::Error::custom)?;
        Ok(hash)
    }
}
