//! A shard: the tokens of many documents, in one file named by its hash.
//!
//! ```text
//! "wealtok1" | width: u32 | 0: u32 | tokens: u64 | documents: u64     32 bytes, little-endian
//! tokens × width                                                      each token in 2 or 4 bytes
//! documents × u32                                                     tokens of each document
//! ```

use std::fs::File;
use std::path::Path;

use weal_proto::Outline;

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"wealtok1";
const HEADER_BYTES: u64 = 32;

/// Bytes per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Two,
    Four,
}

impl Width {
    /// The smallest width for a vocabulary.
    pub(super) fn of_vocabulary(vocabulary: usize) -> Self {
        if vocabulary <= 1 << 16 {
            Self::Two
        } else {
            Self::Four
        }
    }

    pub(super) fn of_bytes(bytes: u32) -> Option<Self> {
        [Self::Two, Self::Four]
            .into_iter()
            .find(|width| width.bytes() == u64::from(bytes))
    }

    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Appends tokens to `bytes` in this width.
    pub(super) fn push(self, tokens: &[u32], bytes: &mut Vec<u8>) {
        match self {
            Self::Two => bytes.extend(
                tokens
                    .iter()
                    .flat_map(|token| (*token as u16).to_le_bytes()),
            ),
            Self::Four => bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes())),
        }
    }

    fn read(self, bytes: &[u8]) -> Vec<u32> {
        match self {
            Self::Two => bytes
                .as_chunks()
                .0
                .iter()
                .map(|pair| u16::from_le_bytes(*pair).into())
                .collect(),
            Self::Four => bytes
                .as_chunks()
                .0
                .iter()
                .map(|four| u32::from_le_bytes(*four))
                .collect(),
        }
    }
}

/// Encodes a shard.
pub(super) fn encode(width: Width, tokens: &[u8], documents: &[u32]) -> Vec<u8> {
    let count = tokens.len() as u64 / width.bytes();
    let mut bytes = Vec::with_capacity(HEADER_BYTES as usize + tokens.len() + documents.len() * 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend((width.bytes() as u32).to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend((documents.len() as u64).to_le_bytes());
    bytes.extend_from_slice(tokens);
    bytes.extend(documents.iter().flat_map(|tokens| tokens.to_le_bytes()));
    bytes
}

/// A shard on disk, from which tokens are read as they are needed.
#[derive(Debug)]
pub(crate) struct Shard {
    file: File,
    width: Width,
    tokens: u64,
}

impl Shard {
    /// Opens a shard and checks all of it: its content against `hash`, and its tokens against the
    /// size of the vocabulary.
    ///
    /// # Errors
    /// [`Error::Shard`] if it is damaged or not the one listed.
    pub(crate) fn open(path: &Path, hash: &[u8; 32], vocabulary: usize) -> Result<Self> {
        let wrong = |reason: String| Error::Shard {
            path: path.to_owned(),
            reason,
        };
        let unreadable = |source| Error::DataUnreadable {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::read(path).map_err(unreadable)?;
        if Outline::of(&bytes).hash().as_bytes() != hash {
            return Err(wrong(format!(
                "its content does not have the hash {}",
                hex::encode(hash)
            )));
        }
        let parsed = parse(&bytes).map_err(|reason| wrong(reason.to_owned()))?;
        let largest = parsed
            .width
            .read(parsed.tokens)
            .into_iter()
            .max()
            .unwrap_or(0);
        if largest as usize >= vocabulary {
            return Err(wrong(format!(
                "it holds the token {largest}, but the vocabulary has only {vocabulary}"
            )));
        }
        let file = File::open(path).map_err(unreadable)?;
        Ok(Self {
            file,
            width: parsed.width,
            tokens: parsed.tokens.len() as u64 / parsed.width.bytes(),
        })
    }

    /// Number of tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Reads `count` tokens from `start` on, which must exist.
    pub(crate) fn read(&self, start: u64, count: usize) -> std::io::Result<Vec<u32>> {
        let width = self.width.bytes();
        let mut bytes = vec![0; count * width as usize];
        read_at(&self.file, &mut bytes, HEADER_BYTES + start * width)?;
        Ok(self.width.read(&bytes))
    }
}

struct Parsed<'a> {
    width: Width,
    tokens: &'a [u8],
    /// The number of tokens of each document, as u32.
    #[cfg_attr(not(test), expect(dead_code))]
    documents: &'a [u8],
}

fn parse(bytes: &[u8]) -> Result<Parsed<'_>, &'static str> {
    let cut = "it is truncated";
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(cut)?;
    let (width, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let (reserved, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let (tokens, rest) = rest.split_first_chunk::<8>().ok_or(cut)?;
    let (documents, rest) = rest.split_first_chunk::<8>().ok_or(cut)?;
    if magic != MAGIC || *reserved != [0; 4] {
        return Err("it is not a token shard");
    }
    let width = Width::of_bytes(u32::from_le_bytes(*width))
        .ok_or("its token width is neither 2 nor 4 bytes")?;
    let length = |count: &[u8; 8], bytes: u64| {
        u64::from_le_bytes(*count)
            .checked_mul(bytes)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or(cut)
    };
    let (tokens, table) = rest
        .split_at_checked(length(tokens, width.bytes())?)
        .ok_or(cut)?;
    if table.len() != length(documents, 4)? {
        return Err("its document table does not have the length that its header gives");
    }
    let sum: u64 = table
        .as_chunks()
        .0
        .iter()
        .map(|tokens| u64::from(u32::from_le_bytes(*tokens)))
        .sum();
    if sum != tokens.len() as u64 / width.bytes() {
        return Err("its document table does not add up to its tokens");
    }
    Ok(Parsed {
        width,
        tokens,
        documents: table,
    })
}

/// The number of tokens of each document in an encoded shard.
#[cfg(test)]
pub(super) fn documents(bytes: &[u8]) -> Vec<u32> {
    let parsed = parse(bytes).unwrap();
    parsed
        .documents
        .as_chunks()
        .0
        .iter()
        .map(|tokens| u32::from_le_bytes(*tokens))
        .collect()
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        offset += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(width: Width, tokens: &[u32], documents: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        width.push(tokens, &mut bytes);
        encode(width, &bytes, documents)
    }

    fn open(bytes: &[u8], hash: [u8; 32], vocabulary: usize) -> Result<Shard> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Shard::open(file.path(), &hash, vocabulary)
    }

    #[test]
    fn tokens_are_read_back_from_any_position() {
        for width in [Width::Two, Width::Four] {
            let tokens: Vec<u32> = (0..1000).collect();
            let bytes = shard(width, &tokens, &[400, 600]);
            let shard = open(&bytes, Outline::of(&bytes).hash().into(), 1000).unwrap();
            assert_eq!(shard.tokens(), 1000);
            assert_eq!(shard.read(990, 10).unwrap(), tokens[990..]);
            assert_eq!(documents(&bytes), [400, 600]);
        }
    }

    #[test]
    fn a_shard_with_another_hash_or_an_unknown_token_is_refused() {
        let bytes = shard(Width::Two, &[1, 2, 3], &[3]);
        let hash = Outline::of(&bytes).hash().into();
        let damaged: Vec<u8> = bytes
            .iter()
            .enumerate()
            .map(|(i, byte)| byte ^ u8::from(i == 33))
            .collect();
        let why = open(&damaged, hash, 10).unwrap_err().to_string();
        assert!(
            why.contains("does not have the hash") && why.contains(&hex::encode(hash)),
            "{why}"
        );
        let why = open(&bytes, hash, 3).unwrap_err().to_string();
        assert!(why.contains("the token 3"), "{why}");
    }

    #[test]
    fn anything_that_is_not_a_shard_is_refused() {
        let bytes = shard(Width::Two, &[1, 2, 3], &[3]);
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "{length}");
        }
        assert!(parse(&[bytes.as_slice(), b"x"].concat()).is_err());
        for (place, value) in [
            (0, b'x'),
            (8, 3),
            (12, 1),
            (16, 9),
            (23, 255),
            (24, 2),
            (31, 255),
            (38, 4),
        ] {
            let mut wrong = bytes.clone();
            wrong[place] = value;
            assert!(parse(&wrong).is_err(), "{place}");
        }
    }
}
