//! The format of a shard: the tokens of many documents, in one file named by its hash.
//!
//! ```text
//! "wealtok2" | width: u32 | flags: u32 | tokens: u64 | documents: u64   32 bytes, little-endian
//! tokens × width                                                        each token in 2 or 4 bytes
//! documents × u32                                                       tokens of each document
//! tokens × 1 bit, if flag 1 is set                                      whether it is learnt
//! ```
//!
//! The last byte of the bits is filled up with zeros; in each byte the lowest bit comes first.

const MAGIC: &[u8; 8] = b"wealtok2";
pub(super) const HEADER_BYTES: u64 = 32;
/// The flag of a shard that says which tokens are learnt.
const HAS_LEARNT: u32 = 1;

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

    pub(super) fn read(self, bytes: &[u8]) -> Vec<u32> {
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

/// What a shard is encoded from.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The tokens, each in the shard's width.
    pub tokens: Vec<u8>,
    /// The number of tokens of each document.
    pub documents: Vec<u32>,
    /// Whether each token is learnt; empty if all are.
    pub learnt: Vec<bool>,
}

impl Content {
    pub(super) fn encode(&self, width: Width) -> Vec<u8> {
        let count = self.tokens.len() as u64 / width.bytes();
        let mut bytes = Vec::with_capacity(
            HEADER_BYTES as usize
                + self.tokens.len()
                + self.documents.len() * 4
                + self.learnt.len() / 8
                + 1,
        );
        let flags = if self.learnt.is_empty() {
            0
        } else {
            HAS_LEARNT
        };
        bytes.extend_from_slice(MAGIC);
        bytes.extend((width.bytes() as u32).to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend((self.documents.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.tokens);
        bytes.extend(
            self.documents
                .iter()
                .flat_map(|tokens| tokens.to_le_bytes()),
        );
        let packed = |bits: &[bool]| {
            let places = bits.iter().enumerate();
            places.fold(0, |byte, (place, bit)| byte | u8::from(*bit) << place)
        };
        bytes.extend(self.learnt.chunks(8).map(packed));
        bytes
    }
}

/// The first bytes of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub width: Width,
    pub tokens: u64,
    pub documents: u64,
    /// Whether the shard says which tokens are learnt.
    pub has_learnt: bool,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let cut = "it is truncated";
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(cut)?;
        let (width, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
        let (flags, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
        let (tokens, rest) = rest.split_first_chunk::<8>().ok_or(cut)?;
        let (documents, _) = rest.split_first_chunk::<8>().ok_or(cut)?;
        let flags = u32::from_le_bytes(*flags);
        if magic != MAGIC || flags & !HAS_LEARNT != 0 {
            return Err("it is not a token shard of this version");
        }
        Ok(Self {
            width: Width::of_bytes(u32::from_le_bytes(*width))
                .ok_or("its token width is neither 2 nor 4 bytes")?,
            tokens: u64::from_le_bytes(*tokens),
            documents: u64::from_le_bytes(*documents),
            has_learnt: flags == HAS_LEARNT,
        })
    }

    /// The length of the whole shard; `None` if no file is that long.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        let learnt = if self.has_learnt {
            self.tokens.div_ceil(8)
        } else {
            0
        };
        self.learnt_at()?.checked_add(learnt)
    }

    /// Where the bits of the learnt tokens begin.
    pub(super) fn learnt_at(&self) -> Option<u64> {
        let tokens = self.tokens.checked_mul(self.width.bytes())?;
        let documents = self.documents.checked_mul(4)?;
        HEADER_BYTES.checked_add(tokens)?.checked_add(documents)
    }
}

/// A whole shard in memory.
pub(super) struct Parsed<'a> {
    pub header: Header,
    pub tokens: &'a [u8],
    /// The number of tokens of each document, as u32.
    #[cfg_attr(not(test), expect(dead_code))]
    pub documents: &'a [u8],
}

impl<'a> Parsed<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let header = Header::parse(bytes)?;
        if header.file_bytes() != Some(bytes.len() as u64) {
            return Err("it does not have the length that its header gives");
        }
        let rest = bytes.get(HEADER_BYTES as usize..).unwrap_or_default();
        // The length of the whole fits into memory, so its parts do.
        let (tokens, rest) = rest
            .split_at_checked((header.tokens * header.width.bytes()) as usize)
            .ok_or("it is truncated")?;
        let (documents, learnt) = rest
            .split_at_checked((header.documents * 4) as usize)
            .ok_or("it is truncated")?;
        let sum: u64 = documents
            .as_chunks()
            .0
            .iter()
            .map(|tokens| u64::from(u32::from_le_bytes(*tokens)))
            .sum();
        if sum != header.tokens {
            return Err("its document table does not add up to its tokens");
        }
        let padded = learnt.last().is_none_or(|last| {
            let used = header.tokens % 8;
            used == 0 || last >> used == 0
        });
        if !padded {
            return Err("its last bits are not zero");
        }
        Ok(Self {
            header,
            tokens,
            documents,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(learnt: &[bool]) -> Vec<u8> {
        let mut tokens = Vec::new();
        Width::Two.push(&[1, 2, 3], &mut tokens);
        let content = Content {
            tokens,
            documents: vec![3],
            learnt: learnt.to_vec(),
        };
        content.encode(Width::Two)
    }

    #[test]
    fn a_shard_is_parsed_as_it_was_encoded() {
        for learnt in [&[][..], &[true, false, true]] {
            let bytes = shard(learnt);
            let parsed = Parsed::new(&bytes).unwrap();
            assert_eq!(parsed.header.width.read(parsed.tokens), [1, 2, 3]);
            assert_eq!(parsed.documents, [3, 0, 0, 0]);
            assert_eq!(parsed.header.has_learnt, !learnt.is_empty());
            assert_eq!(parsed.header.file_bytes(), Some(bytes.len() as u64));
            let at = parsed.header.learnt_at().unwrap() as usize;
            assert_eq!(
                bytes[at..],
                if learnt.is_empty() {
                    vec![]
                } else {
                    vec![0b101]
                }
            );
        }
    }

    #[test]
    fn anything_that_is_not_a_shard_is_refused() {
        for bytes in [shard(&[]), shard(&[true, false, true])] {
            for length in 0..bytes.len() {
                assert!(Parsed::new(&bytes[..length]).is_err(), "{length}");
            }
            assert!(Parsed::new(&[bytes.as_slice(), b"x"].concat()).is_err());
            for (place, value) in [
                (0, b'x'),
                (8, 3),
                (12, 2),
                (13, 1),
                (16, 9),
                (23, 255),
                (24, 2),
                (31, 255),
                (38, 4),
            ] {
                let mut wrong = bytes.clone();
                wrong[place] = value;
                assert!(Parsed::new(&wrong).is_err(), "{place}");
            }
        }
        let mut padding = shard(&[true; 3]);
        *padding.last_mut().unwrap() |= 1 << 3;
        assert!(Parsed::new(&padding).is_err());
    }
}
