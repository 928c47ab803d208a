//! Blobs: byte strings that a peer can fetch in pieces from strangers.
//!
//! A blob is cut into chunks of [`CHUNK_BYTES`]; the last one may be shorter, and an empty blob has
//! none. Its [`Outline`] is its length and the BLAKE3 hash of each chunk, and its name
//! ([`BlobHash`]) is the hash of the outline. So a peer that knows the name can check an outline
//! from anyone, and a peer that has the outline can check every chunk on its own, from any peer and
//! in any order.

use rayon::prelude::*;

use crate::error::{DecodeError, OutlineError};
use crate::ids::BlobHash;
use crate::limits;
use crate::message::Standalone;
use crate::schema::Wire;
use crate::shape::{Shape, plain};
use crate::wire;

/// Length of a chunk: 1 MiB.
pub const CHUNK_BYTES: usize = 1 << 20;

/// BLAKE3 context under which an outline is hashed.
const CONTEXT: &str = "commonweal blob v1";

/// The length of a blob and the hash of each of its chunks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outline {
    /// Length of the blob in bytes.
    pub bytes: u64,
    /// Plain BLAKE3 of each chunk, in order.
    pub chunks: Vec<[u8; 32]>,
}

impl Outline {
    /// Outlines a blob. Chunks are hashed in parallel on the current rayon pool.
    pub fn of(blob: &[u8]) -> Self {
        let chunks = blob
            .par_chunks(CHUNK_BYTES)
            .map(|chunk| *blake3::hash(chunk).as_bytes());
        Self {
            bytes: blob.len() as u64,
            chunks: chunks.collect(),
        }
    }

    /// The number of chunks in a blob of `bytes` bytes.
    pub const fn chunk_count(bytes: u64) -> u64 {
        bytes.div_ceil(CHUNK_BYTES as u64)
    }

    /// The blob's name: BLAKE3 under the context `commonweal blob v1` over the length (64-bit
    /// little-endian) and the chunk hashes.
    pub fn hash(&self) -> BlobHash {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.bytes.to_le_bytes());
        for chunk in &self.chunks {
            hasher.update(chunk);
        }
        BlobHash::from(*hasher.finalize().as_bytes())
    }

    /// Checks that an outline from a stranger belongs to the blob named `hash`.
    ///
    /// # Errors
    /// [`OutlineError::ChunkCount`] if the number of chunks does not follow from the length, and
    /// [`OutlineError::Hash`] if the outline belongs to another blob.
    pub fn verify(&self, hash: &BlobHash) -> Result<(), OutlineError> {
        let expected = Self::chunk_count(self.bytes);
        if self.chunks.len() as u64 != expected {
            return Err(OutlineError::ChunkCount {
                bytes: self.bytes,
                expected,
                got: self.chunks.len(),
            });
        }
        if self.hash() == *hash {
            Ok(())
        } else {
            Err(OutlineError::Hash)
        }
    }

    /// Length of chunk `index` in bytes, or `None` if the blob has no such chunk.
    pub fn chunk_bytes(&self, index: usize) -> Option<usize> {
        let start = (index as u64).checked_mul(CHUNK_BYTES as u64)?;
        let left = self.bytes.checked_sub(start).filter(|&left| left > 0)?;
        Some(left.min(CHUNK_BYTES as u64) as usize)
    }

    /// Checks the bytes of one chunk, as received from a stranger.
    ///
    /// # Errors
    /// [`OutlineError::Chunk`] if the blob has no such chunk, or the chunk has another length or
    /// hash.
    pub fn verify_chunk(&self, index: usize, bytes: &[u8]) -> Result<(), OutlineError> {
        let genuine = self.chunk_bytes(index) == Some(bytes.len())
            && self
                .chunks
                .get(index)
                .is_some_and(|hash| blake3::hash(bytes) == *hash);
        if genuine {
            Ok(())
        } else {
            Err(OutlineError::Chunk { index })
        }
    }
}

impl Standalone for Outline {}

impl Wire for Outline {
    type Wire = wire::Outline;
    const SHAPE: Shape = Shape {
        name: "outline",
        most_bytes: limits::BLOB_ANSWER_BYTES,
        fields: &[plain(1), plain(2)],
    };

    fn to_wire(&self) -> Self::Wire {
        wire::Outline {
            bytes: self.bytes,
            chunk_hashes: self.chunks.concat(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let (chunks, rest) = wire.chunk_hashes.as_chunks::<32>();
        if !rest.is_empty() {
            let bytes = wire.chunk_hashes.len();
            return Err(DecodeError::WrongLength {
                field: "Outline.chunk_hashes",
                bytes,
                expected: 32,
            });
        }
        if chunks.len() > limits::BLOB_CHUNKS {
            let (count, limit) = (chunks.len(), limits::BLOB_CHUNKS);
            return Err(DecodeError::TooMany {
                field: "Outline.chunk_hashes",
                count,
                limit,
            });
        }
        Ok(Self {
            bytes: wire.bytes,
            chunks: chunks.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn chunks_are_a_mebibyte_and_the_last_is_shorter() {
        for (bytes, chunks, last) in [
            (0, 0, None),
            (1, 1, Some(1)),
            (CHUNK_BYTES, 1, Some(CHUNK_BYTES)),
            (CHUNK_BYTES + 7, 2, Some(7)),
        ] {
            let outline = Outline::of(&blob(bytes));
            assert_eq!(outline.chunks.len(), chunks);
            assert_eq!(Outline::chunk_count(bytes as u64), chunks as u64);
            assert_eq!(
                chunks.checked_sub(1).and_then(|i| outline.chunk_bytes(i)),
                last
            );
            assert_eq!(outline.chunk_bytes(chunks), None);
            assert_eq!(outline.chunk_bytes(usize::MAX), None);
            outline.verify(&outline.hash()).unwrap();
        }
    }

    #[test]
    fn every_chunk_is_verified_on_its_own() {
        let blob = blob(2 * CHUNK_BYTES + 5);
        let outline = Outline::of(&blob);
        for (index, chunk) in blob.chunks(CHUNK_BYTES).enumerate() {
            outline.verify_chunk(index, chunk).unwrap();
        }
        let refused = |index| Err(OutlineError::Chunk { index });
        let mut forged = blob[..CHUNK_BYTES].to_vec();
        forged[17] ^= 1;
        assert_eq!(outline.verify_chunk(0, &forged), refused(0));
        assert_eq!(outline.verify_chunk(2, &blob[..CHUNK_BYTES]), refused(2));
        assert_eq!(outline.verify_chunk(3, &[]), refused(3));
    }

    #[test]
    fn a_forged_outline_is_refused() {
        let genuine = Outline::of(&blob(CHUNK_BYTES + 1));
        let hash = genuine.hash();
        let longer = Outline {
            bytes: genuine.bytes + 1,
            ..genuine.clone()
        };
        assert_eq!(longer.verify(&hash), Err(OutlineError::Hash));
        let endless = Outline {
            bytes: u64::MAX,
            ..genuine.clone()
        };
        assert!(matches!(
            endless.verify(&hash),
            Err(OutlineError::ChunkCount { got: 2, .. })
        ));
        assert_eq!(
            Outline::of(b"another").verify(&hash),
            Err(OutlineError::Hash)
        );
    }
}
