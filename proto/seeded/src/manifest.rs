//! Random manifests.

use std::{array, iter};

use weal_proto::manifest::{
    AggregationRule, Compression, Data, DataSource, Founder, Initial, Inner, Limits, Membership,
    Model, Optimiser, Outer, OuterRate, PPM, PreparedTokens, RopeScaling, Schedule, Timing,
    TokenPart, TokenShard, Tokeniser,
};
use weal_proto::{Manifest, Weight, limits};

use super::{Seeded, Source};

impl Seeded for Manifest {
    fn seeded(source: &mut Source) -> Self {
        let founders = source.rising(
            8,
            |source| Founder {
                peer: source.bytes().into(),
                weight: Weight(1 + source.below(1 << 41)),
            },
            |founder| founder.peer,
        );
        let founders = if founders.is_empty() {
            vec![Founder {
                peer: source.bytes().into(),
                weight: Weight(1),
            }]
        } else {
            founders
        };
        Self {
            name: format!("a run of {}", source.number()),
            model: source.any(),
            tokeniser: match source.coin() {
                true => Tokeniser::Bytes,
                false => Tokeniser::File {
                    hash: source.bytes().into(),
                    bytes: 1 + source.below(1 << 20),
                    end_of_text: source.coin().then(|| source.within(0, 255)),
                },
            },
            data: source.any(),
            initial: match source.coin() {
                true => Initial::Seed(source.bytes()),
                false => Initial::Weights(source.bytes().into()),
            },
            inner: source.any(),
            compression: Compression {
                codec: limits::CODEC,
                chunk: 4096,
                keep: source.within(1, 128),
                decay_ppm: ppm(source),
            },
            outer: source.any(),
            timing: source.any(),
            limits: Limits {
                contributions: source.within(1, 20),
                blob_bytes: u32::MAX,
                peers: source.within(20, 64),
            },
            membership: Membership {
                weight_decay_ppm: source.within(1, PPM - 1),
                credit: 1 + source.below(1 << 20),
                probation_rounds: source.within(0, 100),
                vesting_rounds: source.within(0, 100),
                absence_rounds: source.within(1, 100),
            },
            founders,
        }
    }
}

fn ppm(source: &mut Source) -> u32 {
    source.within(0, PPM)
}

impl Seeded for Model {
    fn seeded(source: &mut Source) -> Self {
        let kv_heads = source.within(1, 4);
        let heads = kv_heads * source.within(1, 4);
        Self {
            vocabulary: source.within(256, 1 << 17),
            width: heads * 2 * source.within(1, 64),
            layers: source.within(1, 40),
            heads,
            kv_heads,
            feed_forward: source.within(1, 8192),
            context: source.within(2, 4096),
            tied_embeddings: source.coin(),
            rope_theta: source.within(1, 1_000_000),
            norm_epsilon_ppb: source.within(1, 100_000),
            head_width: if source.coin() {
                0
            } else {
                2 * source.within(1, 256)
            },
            query_key_norm: source.coin(),
            rope_scaling: source.coin().then(|| RopeScaling {
                factor_ppm: source.within(PPM, 32 * PPM),
                low_frequency_ppm: source.within(1, PPM),
                high_frequency_ppm: source.within(PPM + 1, 8 * PPM),
                original_context: source.within(1, 8192),
            }),
        }
    }
}

impl Seeded for Data {
    fn seeded(source: &mut Source) -> Self {
        if source.coin() {
            return Self::Generator {
                seed: source.number(),
                bytes: 10_000 + source.below(1 << 29),
            };
        }
        if source.coin() {
            return Self::Prepared(PreparedTokens {
                token_bytes: source.one_of(&[2, 4]),
                training: Seeded::seeded(source),
                heldout: Seeded::seeded(source),
            });
        }
        let entry = |source: &mut Source| DataSource {
            name: format!("books/{}.txt", source.number()),
            hash: source.bytes().into(),
            bytes: 1 + source.below(1 << 40),
        };
        Self::Sources((0..=source.below(5)).map(|_| entry(source)).collect())
    }
}

impl Seeded for TokenPart {
    fn seeded(source: &mut Source) -> Self {
        let shard = |source: &mut Source| {
            let tokens = 1 + source.below(1 << 24);
            TokenShard {
                hash: source.bytes().into(),
                bytes: 4 * tokens + source.below(1 << 20),
                tokens,
            }
        };
        let shards = (0..=source.below(5)).map(|_| shard(source)).collect();
        Self {
            text_bytes: 1 + source.below(1 << 40),
            shards,
        }
    }
}

impl Seeded for Inner {
    fn seeded(source: &mut Source) -> Self {
        let warmup_steps = source.within(0, 1000);
        let optimiser = source.one_of(&[Optimiser::AdamW, Optimiser::Muon]);
        let schedule = source.one_of(&[Schedule::Cosine, Schedule::Wsd]);
        Self {
            steps: source.within(1, 100),
            batch: source.within(1, 64),
            peak_learning_rate_ppb: source.within(1, 10_000_000),
            warmup_steps,
            decay_steps: if source.coin() {
                0
            } else {
                warmup_steps + source.within(1, 1000)
            },
            final_rate_ppm: ppm(source),
            beta1_ppm: source.within(0, PPM - 1),
            beta2_ppm: source.within(0, PPM - 1),
            weight_decay_ppm: ppm(source),
            gradient_clip_ppm: source.within(1, 10 * PPM),
            optimiser,
            momentum_ppm: if optimiser == Optimiser::Muon {
                source.within(1, PPM - 1)
            } else {
                0
            },
            schedule,
            decay_start: if schedule == Schedule::Wsd {
                warmup_steps
            } else {
                0
            },
        }
    }
}

impl Seeded for Outer {
    fn seeded(source: &mut Source) -> Self {
        let rate = |source: &mut Source| OuterRate {
            from_round: 1 + source.below(1 << 40),
            rate_ppm: ppm(source),
        };
        let first = OuterRate {
            from_round: 0,
            rate_ppm: ppm(source),
        };
        let later = source.rising(5, rate, |rate| rate.from_round);
        Self {
            rule: source.one_of(&[
                AggregationRule::MeanOfSenders,
                AggregationRule::MeanOfAll,
                AggregationRule::RootOfSenders,
            ]),
            rates: iter::once(first).chain(later).collect(),
        }
    }
}

impl Seeded for Timing {
    fn seeded(source: &mut Source) -> Self {
        let [train_ms, fetch_ms, attest_ms, propose_ms, vote_ms] =
            array::from_fn(|_| source.within(100, 3_600_000));
        Self {
            train_ms,
            fetch_ms,
            attest_ms,
            propose_ms,
            vote_ms,
        }
    }
}
