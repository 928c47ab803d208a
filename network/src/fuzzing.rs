//! What the fuzz target `stream` runs: the bytes that a stranger writes to a blob stream.

use futures::io::Cursor;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use weal_proto::{BlobRequest, Message};

use crate::blob_protocol;
use crate::frames::{Answer, Frames};
use crate::protocols::Exchange;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/commonweal/blob/1");

/// Reads `bytes` as a request and as an answer, each in its frame, and decodes the blob messages
/// inside.
///
/// # Panics
/// If a limit is broken, or a forged outline is accepted.
pub async fn read_blob_stream(bytes: &[u8]) {
    let exchange = Exchange::Blob;
    let mut frames = Frames::of(exchange);
    let request = frames
        .read_request(&PROTOCOL, &mut Cursor::new(bytes))
        .await;
    if let Ok(Some(request)) = request {
        assert!(request.len() <= exchange.max_request());
        if let Ok(BlobRequest { blob, part }) = BlobRequest::decode(&request) {
            assert_eq!(blob_protocol::request(blob, part), request);
        }
    }
    let answer = frames
        .read_response(&PROTOCOL, &mut Cursor::new(bytes))
        .await;
    if let Ok(Answer::Here(answer)) = answer {
        assert!(answer.len() <= exchange.max_answer());
        // No input finds an outline with this hash by chance: accepting one is a bug.
        assert!(blob_protocol::decode_outline(&[0; 32].into(), &answer).is_none());
    }
}

#[cfg(test)]
mod tests {
    use weal_proto::{BlobPart, Outline};

    use super::*;

    fn framed(tag: Option<u8>, bytes: &[u8]) -> Vec<u8> {
        let length = (bytes.len() as u32).to_le_bytes();
        [tag.as_slice(), &length, bytes].concat()
    }

    #[tokio::test]
    async fn the_fuzz_target_reads_requests_answers_and_nonsense() {
        let request = blob_protocol::request([3; 32].into(), BlobPart::Chunk(7));
        let outline = Outline::of(&[1; 100]).encode();
        for bytes in [
            framed(None, &request),
            framed(Some(0), &outline),
            framed(Some(2), &[]),
            b"nonsense".to_vec(),
            Vec::new(),
        ] {
            read_blob_stream(&bytes).await;
        }
    }
}
