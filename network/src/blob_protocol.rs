//! The blob protocol, `/commonweal/<run>/blob/1`.
//!
//! A request is a [`BlobRequest`]. The answer is an [`Outline`], or the plain bytes of a chunk. The
//! blob's name proves both, so they may come from anyone.

use weal_proto::limits::BLOB_CHUNKS;
use weal_proto::{BlobHash, BlobPart, BlobRequest, Message, Outline};

/// Encodes a request for a part of the blob named `blob`.
pub(crate) fn request(blob: BlobHash, part: BlobPart) -> Vec<u8> {
    BlobRequest { blob, part }.encode()
}

/// Encodes an outline, or returns `None` if it is too long for an answer.
pub(crate) fn encode_outline(outline: &Outline) -> Option<Vec<u8>> {
    (outline.chunks.len() <= BLOB_CHUNKS).then(|| outline.encode())
}

/// Decodes an outline, or returns `None` if it is not that of the blob named `hash`.
pub(crate) fn decode_outline(hash: &BlobHash, answer: &[u8]) -> Option<Outline> {
    let outline = Outline::decode(answer).ok()?;
    outline.verify(hash).is_ok().then_some(outline)
}

#[cfg(test)]
mod tests {
    use weal_proto::CHUNK_BYTES;

    use super::*;
    use crate::protocols::Exchange;

    const MAX_REQUEST: usize = Exchange::Blob.max_request();
    const MAX_ANSWER: usize = Exchange::Blob.max_answer();

    #[test]
    fn a_chunk_and_its_request_fit_their_frames() {
        const { assert!(CHUNK_BYTES <= MAX_ANSWER) };
        assert!(request([255; 32].into(), BlobPart::Chunk(u32::MAX)).len() <= MAX_REQUEST);
        let mut longest = Outline {
            bytes: u64::MAX,
            chunks: vec![[255; 32]; BLOB_CHUNKS],
        };
        let answer = encode_outline(&longest).unwrap();
        assert!(answer.len() <= MAX_ANSWER, "{}", answer.len());
        longest.chunks.push([255; 32]);
        assert_eq!(encode_outline(&longest), None);
    }

    #[test]
    fn an_outline_is_accepted_only_for_the_blob_it_proves() {
        let outline = Outline::of(&vec![1; CHUNK_BYTES + 10]);
        let hash = outline.hash();
        let answer = encode_outline(&outline).unwrap();
        assert_eq!(decode_outline(&hash, &answer), Some(outline.clone()));

        assert!(decode_outline(&[0; 32].into(), &answer).is_none());
        assert!(decode_outline(&hash, &answer[..answer.len() - 1]).is_none());
        let mut one_more = outline.clone();
        one_more.chunks.push([0; 32]);
        assert!(decode_outline(&hash, &encode_outline(&one_more).unwrap()).is_none());
        let longer = Outline {
            bytes: u64::MAX,
            ..outline
        };
        assert!(decode_outline(&hash, &encode_outline(&longer).unwrap()).is_none());
    }

    #[test]
    fn the_empty_blob_has_an_outline_without_chunks() {
        let outline = Outline::of(&[]);
        let answer = encode_outline(&outline).unwrap();
        assert_eq!(decode_outline(&outline.hash(), &answer), Some(outline));
    }
}
