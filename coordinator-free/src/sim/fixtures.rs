//! Small keys, manifests and messages for tests of the rules.

use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{Commitment, PeerId, RoundNumber, SampleSpan, SigningKey};

use super::manifest;

/// The key made of this byte.
pub fn key(n: u8) -> SigningKey {
    SigningKey::from_seed([n; 32])
}

/// The peer id of [`key`].
pub fn peer(n: u8) -> PeerId {
    key(n).peer()
}

/// A manifest whose founders, of equal weight, have these keys.
pub fn manifest(founders: &[u8]) -> Arc<Manifest> {
    Arc::new(manifest::manifest(founders.iter().map(|n| peer(*n))))
}

/// A commitment to the blob whose hash is made of the byte `blob`. It starts from weights whose
/// state root is all zeros.
pub fn commitment(round: u64, blob: u8) -> Commitment {
    Commitment {
        round: RoundNumber(round),
        base_root: [0; 32].into(),
        blob: [blob; 32].into(),
        blob_bytes: 1_000,
        spans: vec![SampleSpan {
            seed_round: RoundNumber(round),
            first: 0,
            count: 10,
        }],
    }
}

#[cfg(test)]
pub(crate) use of_four_founders::{run, signatures};

#[cfg(test)]
mod of_four_founders {
    use std::sync::Arc;

    use weal_proto::RunId;

    use crate::rules::signatures::{Ed25519, Signatures};

    pub(crate) fn run() -> RunId {
        super::manifest(&[1, 2, 3, 4]).run()
    }

    pub(crate) fn signatures() -> Signatures {
        Signatures::new(run(), Arc::new(Ed25519))
    }
}
