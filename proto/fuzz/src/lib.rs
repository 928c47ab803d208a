//! What all targets have in common: bytes are refused, or they are exactly what the message they
//! decode to encodes to.
//!
//! In `proto/`, with cargo-fuzz:
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! cargo +nightly fuzz run envelope -- -max_total_time=300
//! ```

pub use libfuzzer_sys;
use weal_proto::Message;

/// Decodes, and holds what was accepted against its own encoding.
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
