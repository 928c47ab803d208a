//! Writes tokens as shards, each synced to disk before the next one starts.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use weal_proto::Outline;

use super::index::{PreparedPart, PreparedShard, shard_name};
use super::shard_format::{Content, Width};
use super::tokenise::Tokens;
use crate::error::{Error, Result};

/// Writes the shards of one part into a folder.
pub(super) struct ShardWriter {
    folder: PathBuf,
    width: Width,
    /// A shard ends with the document that reaches this many tokens.
    target: u64,
    content: Content,
    part: PreparedPart,
}

impl ShardWriter {
    pub(super) fn new(folder: &Path, width: Width, target: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            width,
            target,
            content: Content::default(),
            part: PreparedPart::default(),
        }
    }

    pub(super) fn push(&mut self, tokens: &Tokens) -> Result<()> {
        self.part.text_bytes += tokens.text_bytes;
        let (mut bytes, mut learnt) = (tokens.bytes.as_slice(), tokens.learnt.as_slice());
        for count in &tokens.documents {
            let (document, rest) =
                bytes.split_at((u64::from(*count) * self.width.bytes()) as usize);
            bytes = rest;
            self.push_learnt(&mut learnt, *count as usize);
            self.content.tokens.extend_from_slice(document);
            self.content.documents.push(*count);
            if self.content.tokens.len() as u64 >= self.target * self.width.bytes() {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Notes which of a document's tokens are learnt. `learnt` is empty if all are.
    fn push_learnt(&mut self, learnt: &mut &[bool], count: usize) {
        let content = &mut self.content;
        let before = content.tokens.len() / self.width.bytes() as usize;
        if !learnt.is_empty() {
            let (document, rest) = learnt.split_at(count.min(learnt.len()));
            content.learnt.resize(before, true);
            content.learnt.extend_from_slice(document);
            *learnt = rest;
        } else if !content.learnt.is_empty() {
            content.learnt.resize(before + count, true);
        }
    }

    /// Writes the last shard, and returns the list of all.
    pub(super) fn finish(mut self) -> Result<PreparedPart> {
        if !self.content.documents.is_empty() {
            self.write()?;
        }
        Ok(self.part)
    }

    fn write(&mut self) -> Result<()> {
        let bytes = self.content.encode(self.width);
        let hash = Outline::of(&bytes).hash().into();
        let path = self.folder.join(shard_name(&hash));
        let failed = |error: std::io::Error| Error::write(&path, error);
        let mut file = File::create(&path).map_err(failed)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        let tokens = self.content.tokens.len() as u64 / self.width.bytes();
        self.part.documents += self.content.documents.len() as u64;
        self.part.tokens += tokens;
        self.part.shards.push(PreparedShard {
            hash,
            bytes: bytes.len() as u64,
            tokens,
        });
        self.content = Content::default();
        Ok(())
    }
}
