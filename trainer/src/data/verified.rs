//! The shards that were verified at an earlier start, so that a start need not read them all again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::shard::Shard;
use super::stamp::Stamp;
use crate::error::Result;

/// A file that lists verified shards. It is only an aid: if it is missing or damaged, all shards
/// are verified.
#[derive(Debug)]
pub(crate) struct VerifiedShards {
    file: PathBuf,
    known: BTreeMap<String, Verified>,
}

/// A shard's file when it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verified {
    stamp: Stamp,
    highest_token: u32,
}

impl VerifiedShards {
    pub(crate) fn read(file: &Path) -> Self {
        let known = std::fs::read(file).ok();
        let known = known.and_then(|json| serde_json::from_slice(&json).ok());
        Self {
            file: file.to_owned(),
            known: known.unwrap_or_default(),
        }
    }

    /// The shard, if it was verified and its file has not changed since.
    pub(crate) fn open(
        &self,
        path: &Path,
        hash: &[u8; 32],
        vocabulary: usize,
    ) -> Result<Option<Shard>> {
        match self.known.get(&hex::encode(hash)) {
            Some(known) => Shard::unchanged(path, &known.stamp, known.highest_token, vocabulary),
            None => Ok(None),
        }
    }

    /// Lists these shards from now on, except those whose files changed a moment ago.
    pub(crate) fn write<'a>(
        self,
        shards: impl Iterator<Item = (&'a [u8; 32], &'a Shard)>,
        now: SystemTime,
    ) {
        let known: BTreeMap<_, _> = shards
            .filter(|(_, shard)| shard.stamp().0.has_settled(now))
            .map(|(hash, shard)| {
                let (stamp, highest_token) = shard.stamp();
                let verified = Verified {
                    stamp: stamp.clone(),
                    highest_token,
                };
                (hex::encode(hash), verified)
            })
            .collect();
        if known == self.known {
            return;
        }
        let written = serde_json::to_vec(&known)
            .map_err(|error| error.to_string())
            .and_then(|json| {
                weal_files::write(&self.file, weal_files::Access::Owner, &json)
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            tracing::debug!("the next start verifies all shards again: {error}");
        }
    }
}
