//! A part of a corpus that stays on disk, in shards of tokens.

use std::path::PathBuf;

use rayon::prelude::*;

use super::window::Window;
use crate::data::{PreparedFolder, PreparedPart, Shard, ShardTokens, VerifiedShards};
use crate::error::{Error, Result};

/// The shards of one part, and their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenPart {
    /// Bytes of text that all shards together stand for.
    pub text_bytes: u64,
    /// The shards, in order.
    pub shards: Vec<TokenShard>,
}

/// One shard and its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenShard {
    /// The shard's file.
    pub path: PathBuf,
    /// Its blob hash.
    pub hash: [u8; 32],
    /// Tokens in it.
    pub tokens: u64,
}

impl TokenPart {
    /// The training part and the held-out part of a folder of prepared data.
    pub fn of_folder(folder: &PreparedFolder) -> (Self, Self) {
        let part = |part: &PreparedPart| {
            let shard = |shard: &crate::data::PreparedShard| TokenShard {
                path: folder.shard(shard),
                hash: shard.hash,
                tokens: shard.tokens,
            };
            Self {
                text_bytes: part.text_bytes,
                shards: part.shards.iter().map(shard).collect(),
            }
        };
        (part(&folder.index.training), part(&folder.index.heldout))
    }
}

/// Verified shards, in order.
#[derive(Debug)]
pub(super) struct Shards {
    shards: Vec<([u8; 32], Shard)>,
    /// The number of tokens up to the end of each shard.
    ends: Vec<u64>,
    text_bytes: u64,
}

impl Shards {
    /// Verifies every shard that is not `known` from an earlier start.
    pub(super) fn open(
        part: &TokenPart,
        vocabulary: usize,
        known: Option<&VerifiedShards>,
    ) -> Result<Self> {
        let open = |listed: &TokenShard| {
            let (path, hash) = (&listed.path, &listed.hash);
            let known = known.map(|known| known.open(path, hash, vocabulary));
            let shard = match known.transpose()?.flatten() {
                Some(shard) => shard,
                None => Shard::verify(path, hash, vocabulary)?,
            };
            if shard.tokens() == listed.tokens {
                return Ok((listed.hash, shard));
            }
            let reason = format!(
                "it holds {} tokens instead of {}",
                shard.tokens(),
                listed.tokens
            );
            Err(Error::Shard {
                path: listed.path.clone(),
                reason,
            })
        };
        let shards: Vec<_> = part.shards.par_iter().map(open).collect::<Result<_>>()?;
        let mut end = 0;
        let ends = shards.iter().map(|(_, shard)| {
            end += shard.tokens();
            end
        });
        Ok(Self {
            ends: ends.collect(),
            shards,
            text_bytes: part.text_bytes,
        })
    }

    /// The shards with their hashes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8; 32], &Shard)> {
        self.shards.iter().map(|(hash, shard)| (hash, shard))
    }

    pub(super) fn tokens(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The window of `context` + 1 tokens that begins at `start`. Its number of bytes is an average
    /// over the part.
    pub(super) fn window(&self, start: u64, context: usize) -> Result<Window> {
        let ShardTokens { tokens, learnt } = self.read(start, context + 1)?;
        let bytes =
            context as u128 * u128::from(self.text_bytes) / u128::from(self.tokens().max(1));
        Ok(Window {
            tokens,
            learnt,
            bytes: bytes as u64,
        })
    }

    /// `count` tokens from `start` on, across shards.
    pub(super) fn read(&self, start: u64, count: usize) -> Result<ShardTokens> {
        let outside = || Error::Window {
            start,
            length: count,
            available: usize::try_from(self.tokens()).unwrap_or(usize::MAX),
        };
        if start
            .checked_add(count as u64)
            .is_none_or(|end| end > self.tokens())
        {
            return Err(outside());
        }
        let mut all = ShardTokens::default();
        let mut number = self.ends.partition_point(|end| *end <= start);
        while all.tokens.len() < count {
            let (Some(end), Some((_, shard))) = (self.ends.get(number), self.shards.get(number))
            else {
                return Err(outside());
            };
            let before = all.tokens.len();
            let from = start + before as u64;
            let there = (end - from).min((count - before) as u64) as usize;
            let read = shard.read(from - (end - shard.tokens()), there)?;
            // A shard that says nothing learns all of its tokens.
            if !read.learnt.is_empty() {
                all.learnt.resize(before, true);
                all.learnt.extend(read.learnt);
            } else if !all.learnt.is_empty() {
                all.learnt.resize(before + there, true);
            }
            all.tokens.extend(read.tokens);
            number += 1;
        }
        Ok(all)
    }
}
