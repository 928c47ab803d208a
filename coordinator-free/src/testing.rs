//! What this crate's tests share.

use std::sync::Arc;

use weal_proto::manifest::{
    AggregationRule, Compression, Data, Founder, Inner, Limits, Manifest, Membership, Model, Outer, OuterRate, Timing,
    Tokeniser,
};
use weal_proto::{Commitment, PeerId, RoundNumber, RunId, Samples, SigningKey, Weight};

use crate::signatures::{Ed25519, Signatures};

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed([n; 32])
}

pub(crate) fn peer(n: u8) -> PeerId {
    key(n).peer()
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

/// A manifest with these founders, of equal weight.
pub(crate) fn manifest(founders: &[u8]) -> Manifest {
    let mut founders: Vec<_> =
        founders.iter().map(|n| Founder { peer: peer(*n), weight: Weight(10_000) }).collect();
    founders.sort_by_key(|founder| founder.peer);
    Manifest {
        name: "test".into(),
        model: Model {
            vocabulary: 256,
            width: 32,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            feed_forward: 64,
            context: 32,
            tied_embeddings: true,
            rope_theta: 10_000,
            norm_epsilon_ppb: 10_000,
        },
        tokeniser: Tokeniser::Bytes,
        data: Data::Generator { seed: 1, bytes: 100_000 },
        initial_seed: [3; 32],
        inner: Inner {
            steps: 10,
            batch: 1,
            peak_learning_rate_ppb: 1_000_000,
            warmup_steps: 0,
            decay_steps: 0,
            final_rate_ppm: 0,
            beta1_ppm: 900_000,
            beta2_ppm: 950_000,
            weight_decay_ppm: 0,
            gradient_clip_ppm: 1_000_000,
        },
        compression: Compression { codec: 1, chunk: 4096, keep: 64, decay_ppm: 950_000 },
        outer: Outer {
            rule: AggregationRule::MeanOfSenders,
            rates: vec![OuterRate { from_round: 0, rate_ppm: 1_000_000 }],
        },
        timing: Timing { train_ms: 10_000, fetch_ms: 3_000, attest_ms: 2_000, propose_ms: 1_500, vote_ms: 700 },
        limits: Limits { contributions: 16, blob_bytes: 1 << 20, peers: 32 },
        membership: Membership {
            weight_decay_ppm: 950_000,
            credit: 1_000,
            probation_rounds: 2,
            vesting_rounds: 3,
            absence_rounds: 4,
        },
        founders,
    }
}
