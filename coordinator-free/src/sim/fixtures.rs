//! Small keys, manifests and messages for tests of the rules.

use std::sync::Arc;

use weal_proto::manifest::Manifest;
use weal_proto::{
    Attestation, Commitment, ListHash, PeerId, PlaceSet, RoundNumber, SampleSpan, SigningKey,
};

use super::manifest;
use crate::core::{Config, Core, Recovered};
use crate::interface::error::Error;
use crate::interface::input::Input;
use crate::interface::output::{Output, Record};
use crate::interface::time::Millis;

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

/// An attestation of round 0 that finds nothing valid, and names the state root made of the byte
/// `root`.
pub fn attestation(root: u8, attempt: u32) -> Attestation {
    Attestation {
        round: RoundNumber(0),
        base_root: [root; 32].into(),
        valid: PlaceSet::default(),
        list: ListHash::of([]),
        refused: Vec::new(),
        attempt,
        scores: Vec::new(),
    }
}

/// The core of founder 1 of four, after a restart with these records on disk. It trains in round 0,
/// from weights whose state root is all zeros. Returns also what it has asked for so far.
///
/// # Errors
/// If the core cannot start from the records.
pub fn training_founder(records: Vec<Record>) -> Result<(Core, Vec<Output>), Error> {
    let recovered = Recovered {
        records,
        ..Recovered::nothing(manifest(&[1, 2, 3, 4]))
    };
    let mut core = Core::new(Config::new(key(1)), recovered)?;
    let mut outputs = core.step(Millis(0), Input::Start);
    let ready = Input::WeightsReady {
        round: RoundNumber(0),
        root: [0; 32].into(),
    };
    outputs.extend(core.step(Millis(0), ready));
    Ok((core, outputs))
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
