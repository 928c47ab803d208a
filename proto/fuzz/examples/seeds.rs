//! Writes the seed corpus of every fuzz target: encodings of the same values that the tests use.
//!
//! The files go to `corpus/` beside this crate's `Cargo.toml`, or to the folder given as argument.

use std::path::PathBuf;
use std::{env, fs, io};

use weal_proto::{BlobHeader, Message};
use weal_proto_seeded::Seeded;

const SEEDS: u64 = 64;

fn main() -> io::Result<()> {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/corpus").into();
    let corpus = env::args_os().nth(1).unwrap_or_else(beside).into();
    macro_rules! write_all {
        ($($target:ident: $message:ident),* $(,)?) => {$(
            write(&corpus, stringify!($target), |seed| {
                weal_proto::$message::of_seed(seed).encode()
            })?;
        )*};
    }
    write_all! {
        envelope: Envelope,
        commitment: Commitment,
        attestation: Attestation,
        proposal: Proposal,
        vote: Vote,
        view_certificate: ViewCertificate,
        leave: Leave,
        manifest: Manifest,
        snapshot: ChainSnapshot,
        request: Request,
        response: Response,
        decided: Decided,
        outline: Outline,
    }
    write(&corpus, "blob_header", |seed| {
        BlobHeader::of_seed(seed).lead(b"body")
    })
}

fn write(corpus: &PathBuf, target: &str, encoding: impl Fn(u64) -> Vec<u8>) -> io::Result<()> {
    let folder = corpus.join(target);
    fs::create_dir_all(&folder)?;
    (0..SEEDS).try_for_each(|seed| fs::write(folder.join(format!("seed-{seed}")), encoding(seed)))
}
