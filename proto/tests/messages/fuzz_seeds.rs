//! The first inputs of the fuzzer: encodings of seeded values.
//!
//! `WEAL_FUZZ_SEEDS=FOLDER` writes them to `FOLDER/TARGET/`, as `cargo xtask fuzz` does.

use std::fs;
use std::path::Path;

use weal_proto::{BlobHeader, Message};

use super::for_every_message;
use super::seeded::Seeded;

const SEEDS: u64 = 64;

fn encodings<M: Message + Seeded>() -> Vec<Vec<u8>> {
    (0..SEEDS).map(|seed| M::of_seed(seed).encode()).collect()
}

/// What a stream carries is a header and the first bytes of a blob.
fn led_bodies() -> Vec<Vec<u8>> {
    let headers = (0..SEEDS).map(BlobHeader::of_seed);
    headers.map(|header| header.lead(b"body")).collect()
}

fn write(folder: &Path, target: &str, inputs: &[Vec<u8>]) {
    let folder = folder.join(target);
    fs::create_dir_all(&folder).unwrap();
    for (seed, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("seed-{seed}")), input).unwrap();
    }
}

#[test]
fn every_message_seeds_the_fuzzer() {
    let mut targets = Vec::new();
    macro_rules! collect {
        ($($name:ident: $message:ty),* $(,)?) => {$(
            targets.push((stringify!($name), encodings::<$message>()));
        )*};
    }
    for_every_message!(collect);
    targets.retain(|(name, _)| *name != "blob_header");
    targets.push(("blob_header", led_bodies()));

    assert!(
        targets
            .iter()
            .all(|(_, inputs)| inputs.len() == SEEDS as usize)
    );
    if let Some(folder) = std::env::var_os("WEAL_FUZZ_SEEDS") {
        for (target, inputs) in &targets {
            write(Path::new(&folder), target, inputs);
        }
    }
}
