//! What a stranger writes to a stream: a request, an answer, or frames about blobs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weal_network::fuzzing::read_stream;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

fuzz_target!(|bytes: &[u8]| RUNTIME.with(|runtime| runtime.block_on(read_stream(bytes))));
