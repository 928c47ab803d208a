//! What is said of a blob: `/commonweal/<run>/blob/1`.
//!
//! A blob is a byte string cut into chunks of 1 MiB. Its *outline*, the length and the chunks' hashes, hashes to the
//! blob's name; so whoever has the outline can tell every chunk from a forgery, and take chunks from anyone.
//!
//! ```text
//! request  = 0 ‖ hash: 32 bytes                    the outline
//!          | 1 ‖ hash: 32 bytes ‖ index: u32 LE    one chunk
//! outline  = bytes: u64 LE ‖ chunk hashes: 32 bytes each
//! chunk    = its bytes
//! ```

use libp2p::bytes::Bytes;
use weal_kernels::blob::{CHUNK_BYTES, Outline};

/// The longest request in bytes, with room for later versions.
pub(super) const MAX_REQUEST: usize = 128;
/// The longest answer in bytes: a chunk; or an outline of 34,815 chunks, a blob of 34 GiB.
pub(super) const MAX_ANSWER: usize = CHUNK_BYTES + 64 * 1024;

/// A blob's name.
pub(super) type Hash = [u8; 32];

const OUTLINE: u8 = 0;
const CHUNK: u8 = 1;

/// A question about a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Outline(Hash),
    Chunk(Hash, u32),
}

impl Request {
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = Vec::with_capacity(37);
        match self {
            Self::Outline(hash) => {
                bytes.push(OUTLINE);
                bytes.extend(hash);
            }
            Self::Chunk(hash, index) => {
                bytes.push(CHUNK);
                bytes.extend(hash);
                bytes.extend(index.to_le_bytes());
            }
        }
        bytes.into()
    }

    /// `None` for anything but a whole request and no more.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        match (*kind, rest) {
            (OUTLINE, []) => Some(Self::Outline(*hash)),
            (CHUNK, index) => Some(Self::Chunk(*hash, u32::from_le_bytes(index.try_into().ok()?))),
            _ => None,
        }
    }
}

/// The outline as it is sent; `None` where it is too long for an answer.
pub(super) fn encode_outline(bytes: u64, hashes: &[Hash]) -> Option<Vec<u8>> {
    let length = hashes.len().checked_mul(32)?.checked_add(8)?;
    if length > MAX_ANSWER {
        return None;
    }
    let mut encoded = Vec::with_capacity(length);
    encoded.extend(bytes.to_le_bytes());
    encoded.extend(hashes.as_flattened());
    Some(encoded)
}

/// The outline in an answer, if it is that of the blob `hash`.
pub(super) fn decode_outline(hash: &Hash, answer: &[u8]) -> Option<Outline> {
    let (bytes, hashes) = answer.split_first_chunk::<8>()?;
    let (hashes, rest) = hashes.as_chunks::<32>();
    if !rest.is_empty() {
        return None;
    }
    let outline = Outline { bytes: u64::from_le_bytes(*bytes), chunks: hashes.to_vec() };
    outline.verify(hash).is_ok().then_some(outline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire_and_nothing_else_is_one() {
        for request in [Request::Outline([5; 32]), Request::Chunk([6; 32], 70_000)] {
            let bytes = request.encode();
            assert!(bytes.len() <= MAX_REQUEST);
            assert_eq!(Request::decode(&bytes), Some(request));
            assert_eq!(Request::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(Request::decode(&[&bytes[..], &[0]].concat()), None);
        }
        assert_eq!(Request::decode(&[]), None);
        assert_eq!(Request::decode(&[2; 33]), None);
    }

    #[test]
    fn an_outline_is_taken_only_for_the_blob_it_proves() {
        let blob = vec![1; CHUNK_BYTES + 10];
        let outline = weal_kernels::blob::outline(&blob);
        let answer = encode_outline(outline.bytes, &outline.chunks).unwrap();
        let had = decode_outline(&outline.hash(), &answer).unwrap();
        assert_eq!(had, outline);

        assert!(decode_outline(&[0; 32], &answer).is_none());
        assert!(decode_outline(&outline.hash(), &answer[..answer.len() - 1]).is_none());
        let mut one_more = answer.clone();
        one_more.extend([0; 32]);
        assert!(decode_outline(&outline.hash(), &one_more).is_none());
        let huge = [&u64::MAX.to_le_bytes()[..], &[0; 32]].concat();
        assert!(decode_outline(&outline.hash(), &huge).is_none());
    }

    #[test]
    fn the_empty_blob_has_an_outline_without_chunks() {
        let outline = weal_kernels::blob::outline(&[]);
        let answer = encode_outline(outline.bytes, &outline.chunks).unwrap();
        assert_eq!(decode_outline(&outline.hash(), &answer), Some(outline));
    }
}
