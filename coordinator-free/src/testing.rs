//! What this crate's tests share.

use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{Commitment, PeerId, RoundNumber, RunId, Samples, SigningKey};

use crate::rules::signatures::{Ed25519, Signatures};
use crate::sim;

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed([n; 32])
}

pub(crate) fn peer(n: u8) -> PeerId {
    key(n).peer()
}

/// A manifest with these founders, of equal weight.
pub(crate) fn manifest(founders: &[u8]) -> Manifest {
    sim::manifest(founders.iter().map(|n| peer(*n)))
}

pub(crate) fn run() -> RunId {
    manifest(&[1, 2, 3, 4]).run()
}

pub(crate) fn signatures() -> Signatures {
    Signatures::new(run(), Arc::new(Ed25519))
}

pub(crate) fn commitment(round: u64, blob: u8) -> Commitment {
    Commitment {
        round: RoundNumber(round),
        base_root: [0; 32].into(),
        blob: [blob; 32].into(),
        blob_bytes: 1000,
        samples: Samples(10),
    }
}
