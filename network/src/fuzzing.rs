//! What the fuzz target `stream` runs: the bytes that a stranger writes to a stream.

use futures::io::Cursor;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use crate::frames::{Answer, Frames};
use crate::protocols::{MAX_SYNC_ANSWER, MAX_SYNC_REQUEST};
use crate::swarm::{MAX_FRAME, read_frame};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/commonweal/sync/1");

/// Reads `bytes` as a request, as an answer, and as frames about blobs.
///
/// # Panics
/// If a limit is broken, or a frame is read in another way than it is written.
pub async fn read_stream(bytes: &[u8]) {
    let mut frames = Frames {
        max_request: MAX_SYNC_REQUEST,
        max_answer: MAX_SYNC_ANSWER,
        upload: None,
    };
    let request = frames
        .read_request(&PROTOCOL, &mut Cursor::new(bytes))
        .await;
    if let Ok(Some(request)) = request {
        assert!(request.len() <= MAX_SYNC_REQUEST);
    }
    let answer = frames
        .read_response(&PROTOCOL, &mut Cursor::new(bytes))
        .await;
    if let Ok(Answer::Here(answer)) = answer {
        assert!(answer.len() <= MAX_SYNC_ANSWER);
    }
    let mut stream = Cursor::new(bytes);
    let mut read = 0;
    while let Ok(Some(frame)) = read_frame(&mut stream).await {
        let written = frame.encode();
        assert!(written.len() <= MAX_FRAME);
        assert_eq!(
            bytes.get(read + 4..read + 4 + written.len()),
            Some(&*written)
        );
        read += 4 + written.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(tag: Option<u8>, bytes: &[u8]) -> Vec<u8> {
        let length = (bytes.len() as u32).to_le_bytes();
        [tag.as_slice(), &length, bytes].concat()
    }

    #[tokio::test]
    async fn the_fuzz_target_reads_requests_answers_frames_and_nonsense() {
        let ask = [&[0][..], &[3; 32], &[1]].concat();
        let cancel = [&[6][..], &[3; 32], &[1, 0, 0, 0]].concat();
        for bytes in [
            framed(Some(0), b"answer"),
            framed(Some(2), &[]),
            [
                framed(None, &ask),
                framed(None, &cancel),
                framed(None, b"no"),
            ]
            .concat(),
            u32::MAX.to_le_bytes().to_vec(),
            b"nonsense".to_vec(),
            Vec::new(),
        ] {
            read_stream(&bytes).await;
        }
    }
}
