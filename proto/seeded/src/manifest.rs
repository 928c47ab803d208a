//! Random manifests.

use std::{array, iter};

use weal_proto::manifest::{
    Activation, AggregationRule, Ancestor, Compression, CountFactor, Data, DataSource, Founder,
    Initial, Inner, Limits, Membership, Model, NormPlacement, Optimiser, Outer, OuterRate, PPM,
    PreparedTokens, QueryKeyNorm, RopeScaling, RopeScalingKind, Schedule, SpecialTokens, Timing,
    TokenPart, TokenShard, Tokeniser, TokeniserSettings, Trust,
};
use weal_proto::{Manifest, RoundNumber, Weight, limits};

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
        let (initial, ancestor) = match source.coin() {
            true => (Initial::Seed(source.bytes()), None),
            false => {
                let ancestor = source.coin().then(|| source.any());
                (Initial::Weights(source.bytes().into()), ancestor)
            }
        };
        Self {
            name: format!("a run of {}", source.number()),
            model: source.any(),
            tokeniser: match source.coin() {
                true => Tokeniser::Bytes,
                false => Tokeniser::File {
                    hash: source.bytes().into(),
                    bytes: 1 + source.below(1 << 20),
                    special: source.any(),
                    settings: source.coin().then(|| TokeniserSettings {
                        hash: source.bytes().into(),
                        bytes: 1 + source.below(limits::TOKENISER_SETTINGS_BYTES),
                    }),
                },
            },
            data: source.any(),
            initial,
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
                quorum_shrink_ppm: source.within(1, PPM),
                ticket_bits: source.within(0, 40),
            },
            founders,
            rules: limits::RULES,
            trust: source.any(),
            ancestor,
        }
    }
}

impl Seeded for Ancestor {
    fn seeded(source: &mut Source) -> Self {
        Self {
            run: source.bytes().into(),
            round: RoundNumber(source.number()),
            state_root: source.bytes().into(),
        }
    }
}

impl Seeded for Trust {
    fn seeded(source: &mut Source) -> Self {
        let most_score_ppm = source.within(PPM, 4 * PPM);
        Self {
            least_signal_ppm: ppm(source),
            copy_ppm: source.within(1, PPM),
            least_compared: source.within(2, 256),
            committee: source.within(1, 256),
            probation: source.within(0, 100),
            settle_rounds: source.within(1, 8),
            least_typical_ppm: source.within(1, PPM),
            most_score_ppm,
            harm_ppm: source.within(1, most_score_ppm),
            memory_rounds: source.within(1, 100),
            full_standing_ppm: source.within(1, PPM),
            pot: 1 + source.below(1 << 30),
            most_distance_ppm: source.within(PPM, 100 * PPM),
        }
    }
}

fn ppm(source: &mut Source) -> u32 {
    source.within(0, PPM)
}

impl Seeded for SpecialTokens {
    fn seeded(source: &mut Source) -> Self {
        let bos = source.coin().then(|| source.within(0, 255));
        let eos = source.rising(4, |source| source.within(0, 255), |token| *token);
        Self {
            adds_bos: bos.is_some() && source.coin(),
            adds_eos: !eos.is_empty() && source.coin(),
            bos,
            eos,
            pad: source.coin().then(|| source.within(0, 255)),
            unk: source.coin().then(|| source.within(0, 255)),
        }
    }
}

impl Seeded for Model {
    fn seeded(source: &mut Source) -> Self {
        let kv_heads = source.within(1, 4);
        let heads = kv_heads * source.within(1, 4);
        let layers = source.within(1, 40);
        let fused_projections = source.coin();
        let layer_kinds: Vec<u8> = if source.coin() {
            Vec::new()
        } else {
            let kind = |_| source.one_of(&[0, Self::WINDOWED, Self::UNROTATED]);
            (0..layers).map(kind).collect()
        };
        let is_windowed = layer_kinds.contains(&Self::WINDOWED);
        let any = layer_kinds.iter().any(|kind| *kind != 0);
        let if_windowed = |number: u32| if is_windowed { number } else { 0 };
        Self {
            vocabulary: source.within(256, 1 << 17),
            width: heads * 2 * source.within(1, 64),
            layers,
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
            query_key_norm: source.one_of(&QueryKeyNorm::ALL),
            rope_scaling: source.coin().then(|| Seeded::seeded(source)),
            query_key_value_bias: !fused_projections && source.coin(),
            output_bias: !fused_projections && source.coin(),
            feed_forward_bias: !fused_projections && source.coin(),
            norm_placement: source.one_of(&NormPlacement::ALL),
            activation: source.one_of(&Activation::ALL),
            scaled_embedding: source.coin(),
            score_divisor: source.within(0, 512),
            score_cap_ppm: source.within(0, 100 * PPM),
            logit_cap_ppm: source.within(0, 100 * PPM),
            window: if_windowed(source.within(1, 4096)),
            layer_kinds: if any { layer_kinds } else { Vec::new() },
            window_rope_theta: if_windowed(source.within(0, 10_000)),
            rotary_width: if source.coin() { 2 } else { 0 },
            fused_projections,
        }
    }
}

impl Seeded for RopeScaling {
    fn seeded(source: &mut Source) -> Self {
        let kind = source.one_of(&RopeScalingKind::ALL);
        let linear = Self {
            factor_ppm: source.within(PPM, 32 * PPM),
            low_frequency_ppm: 0,
            high_frequency_ppm: 0,
            original_context: 0,
            kind,
            attention_factor_ppb: 0,
            whole_components: false,
        };
        if kind == RopeScalingKind::Linear {
            return linear;
        }
        let is_yarn = kind == RopeScalingKind::Yarn;
        Self {
            low_frequency_ppm: source.within(1, PPM),
            high_frequency_ppm: source.within(PPM + 1, 8 * PPM),
            original_context: source.within(1, 8192),
            attention_factor_ppb: if is_yarn { source.within(1, PPM) } else { 0 },
            whole_components: is_yarn && source.coin(),
            ..linear
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

impl Seeded for CountFactor {
    fn seeded(source: &mut Source) -> Self {
        Self {
            contributions: source.within(1, 256),
            factor_ppm: ppm(source),
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
            factors: source.rising(5, CountFactor::seeded, |factor| factor.contributions),
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
