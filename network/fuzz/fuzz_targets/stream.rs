//! What a stranger writes to a stream: a request or an answer in its frame, and the blob messages
//! inside.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/network/blob.rs"]
mod blob;
#[path = "../../src/network/frames.rs"]
mod frames;
#[path = "../../src/network/pace.rs"]
mod pace;

use futures::io::Cursor;
use libfuzzer_sys::fuzz_target;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use weal_proto::{BlobRequest, Message};

use frames::{Answer, Frames};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/commonweal/blob/1");

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

fuzz_target!(|bytes: &[u8]| RUNTIME.with(|runtime| runtime.block_on(read(bytes))));

async fn read(bytes: &[u8]) {
    let mut frames = Frames {
        max_request: blob::MAX_REQUEST,
        max_answer: blob::MAX_ANSWER,
        upload: None,
        download: None,
    };
    if let Ok(Some(request)) = frames
        .read_request(&PROTOCOL, &mut Cursor::new(bytes))
        .await
    {
        assert!(request.len() <= blob::MAX_REQUEST);
        if let Ok(BlobRequest { blob, part }) = BlobRequest::decode(&request) {
            assert_eq!(blob::request(*blob.as_bytes(), part), request);
        }
    }
    if let Ok(Answer::Here(answer)) = frames
        .read_response(&PROTOCOL, &mut Cursor::new(bytes))
        .await
    {
        assert!(answer.len() <= blob::MAX_ANSWER);
        // Nobody finds an outline for this name by chance: whatever is accepted is wrong.
        assert!(blob::decode_outline(&[0; 32], &answer).is_none());
    }
}
