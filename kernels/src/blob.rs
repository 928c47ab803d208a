//! Blobs: byte strings that can be fetched in pieces from strangers.
//!
//! A blob is cut into chunks of [`CHUNK_BYTES`] (the last one shorter; an empty blob has none). Its
//! [`Outline`] is its length and the BLAKE3 hash of every chunk; the blob's name is the hash of its
//! outline. So whoever knows the name can check an outline from anyone, and whoever has the outline
//! can check every chunk alone, as it arrives, from any peer and in any order.

use rayon::prelude::*;

use crate::Error;

/// A chunk's length, in bytes: 1 MiB.
pub const CHUNK_BYTES: usize = 1 << 20;

const CONTEXT: &str = "commonweal blob v1";

/// A blob's length and the hashes of its chunks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outline {
    /// The blob's length, in bytes.
    pub bytes: u64,
    /// Plain BLAKE3 of each chunk's bytes, in order.
    pub chunks: Vec<[u8; 32]>,
}

/// The outline of a byte string. Chunks are hashed in parallel on the current rayon pool.
pub fn outline(bytes: &[u8]) -> Outline {
    let chunks = bytes
        .par_chunks(CHUNK_BYTES)
        .map(|chunk| *blake3::hash(chunk).as_bytes());
    Outline {
        bytes: bytes.len() as u64,
        chunks: chunks.collect(),
    }
}

/// The number of chunks a blob of that many bytes has.
pub const fn chunk_count(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES as u64)
}

impl Outline {
    /// The blob's name: BLAKE3 under the context `commonweal blob v1` over the length (64-bit
    /// little-endian) and the chunks' hashes.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.bytes.to_le_bytes());
        for chunk in &self.chunks {
            hasher.update(chunk);
        }
        *hasher.finalize().as_bytes()
    }

    /// Checks an outline that a stranger sent against the blob's name.
    ///
    /// # Errors
    /// [`Error::OutlineChunks`] when the number of chunks does not follow from the length,
    /// [`Error::OutlineHash`] when it is another blob's outline.
    pub fn verify(&self, hash: &[u8; 32]) -> Result<(), Error> {
        let expected = chunk_count(self.bytes);
        if self.chunks.len() as u64 != expected {
            let got = self.chunks.len();
            return Err(Error::OutlineChunks {
                bytes: self.bytes,
                expected,
                got,
            });
        }
        if self.hash() == *hash {
            Ok(())
        } else {
            Err(Error::OutlineHash)
        }
    }

    /// The length of chunk `index`, in bytes, or `None` where the blob has no such chunk.
    pub fn chunk_bytes(&self, index: usize) -> Option<usize> {
        let start = (index as u64).checked_mul(CHUNK_BYTES as u64)?;
        let left = self.bytes.checked_sub(start).filter(|&left| left > 0)?;
        Some(left.min(CHUNK_BYTES as u64) as usize)
    }

    /// Checks one chunk's bytes, as they arrived from a stranger.
    ///
    /// # Errors
    /// [`Error::Chunk`] when the blob has no such chunk, or when its length or hash is another.
    pub fn verify_chunk(&self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        let genuine = self.chunk_bytes(index) == Some(bytes.len())
            && self
                .chunks
                .get(index)
                .is_some_and(|hash| blake3::hash(bytes) == *hash);
        if genuine {
            Ok(())
        } else {
            Err(Error::Chunk { chunk: index })
        }
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
            let outline = outline(&blob(bytes));
            assert_eq!(outline.chunks.len(), chunks);
            assert_eq!(chunk_count(bytes as u64), chunks as u64);
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
    fn every_chunk_is_proved_alone() {
        let blob = blob(2 * CHUNK_BYTES + 5);
        let outline = outline(&blob);
        for (index, chunk) in blob.chunks(CHUNK_BYTES).enumerate() {
            outline.verify_chunk(index, chunk).unwrap();
        }
        let mut forged = blob[..CHUNK_BYTES].to_vec();
        forged[17] ^= 1;
        assert_eq!(
            outline.verify_chunk(0, &forged),
            Err(Error::Chunk { chunk: 0 })
        );
        assert_eq!(
            outline.verify_chunk(2, &blob[..CHUNK_BYTES]),
            Err(Error::Chunk { chunk: 2 })
        );
        assert_eq!(outline.verify_chunk(3, &[]), Err(Error::Chunk { chunk: 3 }));
    }

    #[test]
    fn a_forged_outline_is_refused() {
        let genuine = outline(&blob(CHUNK_BYTES + 1));
        let hash = genuine.hash();
        let longer = Outline {
            bytes: genuine.bytes + 1,
            ..genuine.clone()
        };
        assert_eq!(longer.verify(&hash), Err(Error::OutlineHash));
        let endless = Outline {
            bytes: u64::MAX,
            ..genuine.clone()
        };
        assert!(matches!(
            endless.verify(&hash),
            Err(Error::OutlineChunks { got: 2, .. })
        ));
        assert_eq!(outline(b"another").verify(&hash), Err(Error::OutlineHash));
    }
}
