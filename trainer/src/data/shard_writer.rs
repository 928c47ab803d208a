//! Writes tokens as shards, each synced to disk before the next one starts.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use weal_proto::Outline;

use super::index::{PreparedPart, PreparedShard, shard_name};
use super::shard::{Width, encode};
use super::tokenise::Tokens;
use crate::error::{Error, Result};

/// Writes the shards of one part into a folder.
pub(super) struct ShardWriter {
    folder: PathBuf,
    width: Width,
    /// A shard ends with the document that reaches this many tokens.
    target: u64,
    tokens: Vec<u8>,
    documents: Vec<u32>,
    part: PreparedPart,
}

impl ShardWriter {
    pub(super) fn new(folder: &Path, width: Width, target: u64) -> Self {
        let (tokens, documents) = (Vec::new(), Vec::new());
        Self {
            folder: folder.to_owned(),
            width,
            target,
            tokens,
            documents,
            part: PreparedPart::default(),
        }
    }

    pub(super) fn push(&mut self, tokens: &Tokens) -> Result<()> {
        self.part.text_bytes += tokens.text_bytes;
        let mut bytes = tokens.bytes.as_slice();
        for count in &tokens.documents {
            let (document, rest) =
                bytes.split_at((u64::from(*count) * self.width.bytes()) as usize);
            bytes = rest;
            self.tokens.extend_from_slice(document);
            self.documents.push(*count);
            if self.tokens.len() as u64 >= self.target * self.width.bytes() {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Writes the last shard, and returns the list of all.
    pub(super) fn finish(mut self) -> Result<PreparedPart> {
        if !self.documents.is_empty() {
            self.write()?;
        }
        Ok(self.part)
    }

    fn write(&mut self) -> Result<()> {
        let bytes = encode(self.width, &self.tokens, &self.documents);
        let hash = Outline::of(&bytes).hash().into();
        let path = self.folder.join(shard_name(&hash));
        let failed = |error: std::io::Error| Error::write(&path, error);
        let mut file = File::create(&path).map_err(failed)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        let tokens = self.tokens.len() as u64 / self.width.bytes();
        self.part.documents += self.documents.len() as u64;
        self.part.tokens += tokens;
        self.part.shards.push(PreparedShard {
            hash,
            bytes: bytes.len() as u64,
            tokens,
        });
        self.tokens.clear();
        self.documents.clear();
        Ok(())
    }
}
