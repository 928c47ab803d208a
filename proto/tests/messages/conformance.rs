//! Compares the encodings with the hashes in `conformance.txt`. Peers of different builds
//! understand each other only as long as these bytes stay the same, so a change is a new version of
//! the protocol.
//!
//! To change them on purpose, run `WEAL_BLESS=1 cargo test -p weal-proto conformance`, and say why
//! in the commit.

use std::fmt::Write as _;

use weal_proto::Message;
use weal_proto_seeded::Seeded;

use super::for_every_message;

const SEEDS: u64 = 1_000;
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance.txt");

fn line<M: Message + Seeded>(name: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for seed in 0..SEEDS {
        let bytes = M::of_seed(seed).encode();
        hasher
            .update(&(bytes.len() as u64).to_le_bytes())
            .update(&bytes);
    }
    format!("{name} {}", hasher.finalize().to_hex())
}

fn lines() -> String {
    let mut text = format!(
        "# BLAKE3 of the encodings of {SEEDS} seeded values of each message, each led by its length as 8 bytes.\n\
         # See tests/messages/conformance.rs before you change a line.\n"
    );
    macro_rules! write_lines {
        ($($name:ident: $message:ty),* $(,)?) => {$(
            writeln!(text, "{}", line::<$message>(stringify!($name))).unwrap();
        )*};
    }
    for_every_message!(write_lines);
    text
}

#[test]
fn encodings_match_the_conformance_file() {
    let found = lines();
    if std::env::var_os("WEAL_BLESS").is_some() {
        std::fs::write(FILE, &found).unwrap();
    }
    let expected = std::fs::read_to_string(FILE).unwrap_or_default();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(
            found, expected,
            "the encoding has changed: peers with an earlier build would not understand it"
        );
    }
    assert_eq!(found, expected);
}
