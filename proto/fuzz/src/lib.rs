//! The check of all targets: bytes are refused, or they are the canonical encoding of the message
//! that they decode to.
//!
//! Run in `proto/`, with cargo-fuzz:
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! cargo +nightly fuzz run envelope -- -max_total_time=300
//! ```

pub use libfuzzer_sys;
use weal_proto::Message;

/// Decodes, and checks that what is accepted encodes to the same bytes.
pub fn nothing_but_itself<M: Message>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        assert_eq!(
            message.encode(),
            bytes,
            "{}: accepted, but not the canonical encoding",
            M::NAME
        );
    }
}

/// A fuzz target that decodes one type of message.
#[macro_export]
macro_rules! target {
    ($message:ty) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::nothing_but_itself::<$message>(
            bytes
        ));
    };
}
