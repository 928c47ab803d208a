//! What is said of a blob: `/commonweal/<run>/blob/1`.
//!
//! A request is a [`BlobRequest`]. Its answer is an [`Outline`](weal_proto::Outline), or a chunk's
//! bytes as they are. Either is proven by the blob's name: so chunks can be taken from anyone.

use weal_kernels::blob::Outline;
use weal_proto::limits::{BLOB_ANSWER_BYTES, BLOB_CHUNKS, BLOB_REQUEST_BYTES};
use weal_proto::{BlobPart, BlobRequest, Message};

/// The longest request in bytes.
pub(super) const MAX_REQUEST: usize = BLOB_REQUEST_BYTES;
/// The longest answer in bytes.
pub(super) const MAX_ANSWER: usize = BLOB_ANSWER_BYTES;

/// A blob's name.
pub(super) type Hash = [u8; 32];

/// A request for a part of the blob of that name.
pub(super) fn request(hash: Hash, part: BlobPart) -> Vec<u8> {
    BlobRequest {
        blob: hash.into(),
        part,
    }
    .encode()
}

/// The outline as it is sent; `None` where it is too long for an answer.
pub(super) fn encode_outline(bytes: u64, chunks: Vec<Hash>) -> Option<Vec<u8>> {
    (chunks.len() <= BLOB_CHUNKS).then(|| weal_proto::Outline { bytes, chunks }.encode())
}

/// The outline in an answer, if it is that of the blob `hash`.
pub(super) fn decode_outline(hash: &Hash, answer: &[u8]) -> Option<Outline> {
    let weal_proto::Outline { bytes, chunks } = weal_proto::Outline::decode(answer).ok()?;
    let outline = Outline { bytes, chunks };
    outline.verify(hash).is_ok().then_some(outline)
}

#[cfg(test)]
mod tests {
    use weal_kernels::blob::CHUNK_BYTES;

    use super::*;

    #[test]
    fn a_chunk_and_its_request_fit_their_frames() {
        const { assert!(CHUNK_BYTES <= MAX_ANSWER) };
        assert!(request([255; 32], BlobPart::Chunk(u32::MAX)).len() <= MAX_REQUEST);
        let longest = encode_outline(u64::MAX, vec![[255; 32]; BLOB_CHUNKS]).unwrap();
        assert!(longest.len() <= MAX_ANSWER, "{}", longest.len());
        assert_eq!(
            encode_outline(u64::MAX, vec![[255; 32]; BLOB_CHUNKS + 1]),
            None
        );
    }

    #[test]
    fn an_outline_is_taken_only_for_the_blob_it_proves() {
        let blob = vec![1; CHUNK_BYTES + 10];
        let outline = weal_kernels::blob::outline(&blob);
        let sent = |bytes: u64, chunks: &[Hash]| encode_outline(bytes, chunks.to_vec()).unwrap();
        let answer = sent(outline.bytes, &outline.chunks);
        assert_eq!(
            decode_outline(&outline.hash(), &answer),
            Some(outline.clone())
        );

        assert!(decode_outline(&[0; 32], &answer).is_none());
        assert!(decode_outline(&outline.hash(), &answer[..answer.len() - 1]).is_none());
        let one_more = [&outline.chunks[..], &[[0; 32]]].concat();
        assert!(decode_outline(&outline.hash(), &sent(outline.bytes, &one_more)).is_none());
        assert!(decode_outline(&outline.hash(), &sent(u64::MAX, &outline.chunks)).is_none());
    }

    #[test]
    fn the_empty_blob_has_an_outline_without_chunks() {
        let outline = weal_kernels::blob::outline(&[]);
        let answer = encode_outline(outline.bytes, outline.chunks.clone()).unwrap();
        assert_eq!(decode_outline(&outline.hash(), &answer), Some(outline));
    }
}
