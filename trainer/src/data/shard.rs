//! A shard of tokens on disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use weal_proto::Outline;

use super::shard_format::{HEADER_BYTES, Header, Parsed};
use super::stamp::Stamp;
use crate::error::{Error, Result};

/// A shard on disk. Its file is open only while tokens are read, since a run may have more shards
/// than a process may have open files.
#[derive(Debug)]
pub(crate) struct Shard {
    path: PathBuf,
    /// The file as it was when its content was verified.
    stamp: Stamp,
    header: Header,
    /// The highest token in it.
    highest: u32,
}

/// Tokens of a shard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardTokens {
    pub tokens: Vec<u32>,
    /// Whether each is learnt; empty if all are.
    pub learnt: Vec<bool>,
}

impl Shard {
    /// Verifies a shard: its content against `hash`, and its tokens against the size of the
    /// vocabulary.
    ///
    /// # Errors
    /// [`Error::Shard`] if it is damaged or not the one listed.
    pub(crate) fn verify(path: &Path, hash: &[u8; 32], vocabulary: usize) -> Result<Self> {
        let unreadable = |source| unreadable(path, source);
        let stamp = Stamp::of(&File::open(path).map_err(unreadable)?).map_err(unreadable)?;
        let bytes = std::fs::read(path).map_err(unreadable)?;
        if Outline::of(&bytes).hash().as_bytes() != hash {
            let hash = hex::encode(hash);
            return Err(wrong(
                path,
                format!("its content does not have the hash {hash}"),
            ));
        }
        let parsed = Parsed::new(&bytes).map_err(|reason| wrong(path, reason.to_owned()))?;
        let tokens = parsed.header.width.read(parsed.tokens);
        let shard = Self {
            path: path.to_owned(),
            stamp,
            header: parsed.header,
            highest: tokens.into_iter().max().unwrap_or(0),
        };
        shard.check(vocabulary)?;
        Ok(shard)
    }

    /// A shard that was verified at an earlier start, if its file has not changed since. The
    /// highest token is taken from then.
    pub(crate) fn unchanged(
        path: &Path,
        verified: &Stamp,
        highest: u32,
        vocabulary: usize,
    ) -> Result<Option<Self>> {
        let unreadable = |source| unreadable(path, source);
        let file = File::open(path).map_err(unreadable)?;
        let stamp = Stamp::of(&file).map_err(unreadable)?;
        if stamp != *verified {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES as usize];
        read_at(&file, &mut bytes, 0).map_err(unreadable)?;
        let header = Header::parse(&bytes).map_err(|reason| wrong(path, reason.to_owned()))?;
        if header.file_bytes() != Some(stamp.bytes()) {
            return Ok(None);
        }
        let shard = Self {
            path: path.to_owned(),
            stamp,
            header,
            highest,
        };
        shard.check(vocabulary)?;
        Ok(Some(shard))
    }

    fn check(&self, vocabulary: usize) -> Result<()> {
        let highest = self.highest;
        if highest as usize >= vocabulary {
            let reason =
                format!("it holds the token {highest}, but the vocabulary has only {vocabulary}");
            return Err(wrong(&self.path, reason));
        }
        Ok(())
    }

    /// Number of tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.header.tokens
    }

    /// The file as it was verified, and the highest token in it.
    pub(crate) fn stamp(&self) -> (&Stamp, u32) {
        (&self.stamp, self.highest)
    }

    /// Reads `count` tokens from `start` on, which must exist.
    ///
    /// # Errors
    /// If the file cannot be read, or is no longer the one that was verified.
    pub(crate) fn read(&self, start: u64, count: usize) -> Result<ShardTokens> {
        let unreadable = |source| unreadable(&self.path, source);
        let file = File::open(&self.path).map_err(unreadable)?;
        if !Stamp::of(&file)
            .map_err(unreadable)?
            .is_same_content(&self.stamp)
        {
            return Err(wrong(
                &self.path,
                "it changed while it was in use".to_owned(),
            ));
        }
        let width = self.header.width;
        let mut bytes = vec![0; count * width.bytes() as usize];
        read_at(&file, &mut bytes, HEADER_BYTES + start * width.bytes()).map_err(unreadable)?;
        let tokens = width.read(&bytes);
        let mut learnt = Vec::new();
        if let Some(at) = self.header.learnt_at().filter(|_| self.header.has_learnt) {
            let (first, last) = (start / 8, (start + count as u64).div_ceil(8));
            let mut bits = vec![0u8; (last - first) as usize];
            read_at(&file, &mut bits, at + first).map_err(unreadable)?;
            let bits = bits
                .iter()
                .flat_map(|byte| (0..8).map(move |place| byte >> place & 1 == 1));
            learnt = bits.skip((start % 8) as usize).take(count).collect();
        }
        Ok(ShardTokens { tokens, learnt })
    }
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::Shard {
        path: path.to_owned(),
        reason,
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::DataUnreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        offset += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::shard_format::{Content, Width};
    use super::*;

    fn shard(width: Width, numbers: &[u32], learnt: Vec<bool>) -> Vec<u8> {
        let mut tokens = Vec::new();
        width.push(numbers, &mut tokens);
        let content = Content {
            tokens,
            documents: vec![numbers.len() as u32],
            learnt,
        };
        content.encode(width)
    }

    struct Written(tempfile::NamedTempFile, [u8; 32]);

    impl Written {
        fn new(bytes: &[u8]) -> Self {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            Self(file, Outline::of(bytes).hash().into())
        }

        fn verify(&self, vocabulary: usize) -> Result<Shard> {
            Shard::verify(self.0.path(), &self.1, vocabulary)
        }
    }

    #[test]
    fn tokens_are_read_back_from_any_position() {
        let is_learnt = |number: u32| number % 3 == 1;
        for width in [Width::Two, Width::Four] {
            for learnt in [Vec::new(), (0..1000).map(is_learnt).collect::<Vec<_>>()] {
                let numbers: Vec<u32> = (0..1000).collect();
                let written = Written::new(&shard(width, &numbers, learnt.clone()));
                let shard = written.verify(1000).unwrap();
                assert_eq!(shard.tokens(), 1000);
                for (start, count) in [(0, 1000), (990, 10), (7, 3), (8, 8), (999, 1)] {
                    let read = shard.read(start as u64, count).unwrap();
                    assert_eq!(read.tokens, numbers[start..start + count]);
                    let part = learnt.get(start..start + count).unwrap_or_default();
                    assert_eq!(read.learnt, part);
                }
            }
        }
    }

    #[test]
    fn a_shard_with_another_hash_or_an_unknown_token_is_refused() {
        let bytes = shard(Width::Two, &[1, 2, 3], Vec::new());
        let mut written = Written::new(&bytes);
        let why = written.verify(3).unwrap_err().to_string();
        assert!(why.contains("the token 3"), "{why}");
        written.1 = [7; 32];
        let why = written.verify(10).unwrap_err().to_string();
        let hash = hex::encode([7; 32]);
        assert!(
            why.contains("does not have the hash") && why.contains(&hash),
            "{why}"
        );
    }

    #[test]
    fn an_unchanged_file_need_not_be_read_again_and_a_changed_one_is_not_trusted() {
        let bytes = shard(Width::Two, &[1, 2, 3], Vec::new());
        let written = Written::new(&bytes);
        let path = written.0.path();
        let shard = written.verify(10).unwrap();
        let (stamp, highest) = (shard.stamp().0.clone(), shard.stamp().1);
        let again = Shard::unchanged(path, &stamp, highest, 10)
            .unwrap()
            .unwrap();
        assert_eq!(again.read(0, 3).unwrap().tokens, [1, 2, 3]);
        let why = Shard::unchanged(path, &stamp, highest, 3).unwrap_err();
        assert!(why.to_string().contains("the token 3"), "{why}");

        let mut changed = bytes.clone();
        changed[32] ^= 1;
        // A file of the same length in its place is another file.
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, &changed).unwrap();
        assert!(
            Shard::unchanged(path, &stamp, highest, 10)
                .unwrap()
                .is_none()
        );
        let why = again.read(0, 3).unwrap_err().to_string();
        assert!(why.contains("changed while it was in use"), "{why}");
    }
}
