//! The manifest of a simulated run.

use weal_proto::manifest::{
    Activation, AggregationRule, Compression, Data, Founder, Initial, Inner, Limits, Manifest,
    Membership, Model, NormPlacement, Optimiser, Outer, OuterRate, QueryKeyNorm, Schedule, Timing,
    Tokeniser, Trust,
};
use weal_proto::{PeerId, Weight, limits};

/// A manifest whose founders have equal weights, with timeouts that suit a simulated network.
pub(super) fn manifest(founders: impl IntoIterator<Item = PeerId>) -> Manifest {
    let mut founders: Vec<_> = founders
        .into_iter()
        .map(|peer| Founder {
            peer,
            weight: Weight(10_000),
        })
        .collect();
    founders.sort_by_key(|founder| founder.peer);
    Manifest {
        name: "simulated".into(),
        model: model(),
        tokeniser: Tokeniser::Bytes,
        data: Data::Generator {
            seed: 1,
            bytes: 100_000,
        },
        initial: Initial::Seed([3; 32]),
        inner: inner(),
        compression: Compression {
            codec: limits::CODEC,
            chunk: 4096,
            keep: 32,
            decay_ppm: 950_000,
        },
        outer: Outer {
            rule: AggregationRule::MeanOfSenders,
            rates: vec![OuterRate {
                from_round: 0,
                rate_ppm: 1_000_000,
            }],
            factors: Vec::new(),
        },
        timing: Timing {
            train_ms: 10_000,
            fetch_ms: 3_000,
            attest_ms: 2_000,
            propose_ms: 1_500,
            vote_ms: 700,
        },
        limits: Limits {
            contributions: 16,
            blob_bytes: 1 << 20,
            peers: 32,
        },
        membership: Membership {
            weight_decay_ppm: 950_000,
            credit: 1_000,
            probation_rounds: 2,
            vesting_rounds: 3,
            absence_rounds: 4,
            quorum_shrink_ppm: 100_000,
            ticket_bits: 4,
        },
        founders,
        rules: limits::RULES,
        trust: Trust {
            pot: 10_000,
            ..Trust::default()
        },
        ancestor: None,
    }
}

/// No model is trained, so any valid one will do.
const fn model() -> Model {
    Model {
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
        head_width: 0,
        query_key_norm: QueryKeyNorm::None,
        rope_scaling: None,
        query_key_value_bias: false,
        output_bias: false,
        feed_forward_bias: false,
        norm_placement: NormPlacement::Before,
        activation: Activation::Silu,
        scaled_embedding: false,
        score_divisor: 0,
        score_cap_ppm: 0,
        logit_cap_ppm: 0,
        window: 0,
        layer_kinds: Vec::new(),
        window_rope_theta: 0,
        rotary_width: 0,
        fused_projections: false,
    }
}

const fn inner() -> Inner {
    Inner {
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
        optimiser: Optimiser::AdamW,
        momentum_ppm: 0,
        schedule: Schedule::Cosine,
        decay_start: 0,
    }
}
