//! The manifest to and from the schema's structs.

use super::{
    AggregationRule, Compression, Data, DataSource, Founder, Initial, Inner, Limits, Manifest,
    Membership, Model, Optimiser, Outer, OuterRate, PreparedTokens, RopeScaling, Schedule, Timing,
    TokenPart, TokenShard, Tokeniser,
};
use crate::error::DecodeError;
use crate::ids::{BlobHash, PeerId, Weight};
use crate::limits;
use crate::message::{Wire, list, required};
use crate::shape::{self, Shape, id, one, plain};
use crate::wire;

/// Structs with the same field names on both sides.
macro_rules! same_fields {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl From<&$name> for wire::$name {
            fn from(value: &$name) -> Self {
                Self { $($field: value.$field),* }
            }
        }

        impl From<wire::$name> for $name {
            fn from(wire: wire::$name) -> Self {
                Self { $($field: wire.$field),* }
            }
        }
    };
}

same_fields!(RopeScaling {
    factor_ppm,
    low_frequency_ppm,
    high_frequency_ppm,
    original_context
});
same_fields!(Compression {
    codec,
    chunk,
    keep,
    decay_ppm
});
same_fields!(OuterRate {
    from_round,
    rate_ppm
});
same_fields!(Timing {
    train_ms,
    fetch_ms,
    attest_ms,
    propose_ms,
    vote_ms
});
same_fields!(Limits {
    contributions,
    blob_bytes,
    peers
});
same_fields!(Membership {
    weight_decay_ppm,
    credit,
    probation_rounds,
    vesting_rounds,
    absence_rounds
});

/// Parts that hold nothing but numbers, in at most fourteen fields.
const NUMBERS: Shape = Shape {
    name: "manifest",
    most_bytes: 128,
    fields: &[
        plain(1),
        plain(2),
        plain(3),
        plain(4),
        plain(5),
        plain(6),
        plain(7),
        plain(8),
        plain(9),
        plain(10),
        plain(11),
        plain(12),
        plain(13),
        plain(14),
    ],
};
const MODEL: Shape = Shape {
    name: "manifest",
    most_bytes: 128,
    fields: &[
        plain(1),
        plain(2),
        plain(3),
        plain(4),
        plain(5),
        plain(6),
        plain(7),
        plain(8),
        plain(9),
        plain(10),
        plain(11),
        plain(12),
        one(13, &NUMBERS),
    ],
};
const TOKENISER: Shape = Shape {
    name: "manifest",
    most_bytes: 64,
    fields: &[plain(1), plain(2), plain(3)],
};
const DATA: Shape = Shape {
    name: "manifest",
    most_bytes: limits::MANIFEST_BYTES,
    fields: &[
        shape::list(1, "Data.sources", limits::SOURCES, &DATA_SOURCE),
        one(2, &NUMBERS),
        one(3, &PREPARED),
    ],
};
const PREPARED: Shape = Shape {
    name: "manifest",
    most_bytes: limits::MANIFEST_BYTES,
    fields: &[plain(1), one(2, &TOKEN_PART), one(3, &TOKEN_PART)],
};
const TOKEN_PART: Shape = Shape {
    name: "manifest",
    most_bytes: limits::MANIFEST_BYTES,
    fields: &[
        plain(1),
        shape::list(2, "TokenPart.shards", limits::SHARDS, &TOKEN_SHARD),
    ],
};
const TOKEN_SHARD: Shape = Shape {
    name: "manifest",
    most_bytes: 64,
    fields: &[id(1, "TokenShard.hash"), plain(2), plain(3)],
};
const DATA_SOURCE: Shape = Shape {
    name: "manifest",
    most_bytes: limits::NAME_BYTES + 64,
    fields: &[plain(1), id(2, "DataSource.hash"), plain(3)],
};
const OUTER: Shape = Shape {
    name: "manifest",
    most_bytes: limits::MANIFEST_BYTES,
    fields: &[
        plain(1),
        shape::list(2, "Outer.rates", limits::OUTER_RATES, &NUMBERS),
    ],
};
const FOUNDER: Shape = Shape {
    name: "manifest",
    most_bytes: 64,
    fields: &[id(1, "Founder.peer"), plain(2)],
};

impl Wire for Manifest {
    type Wire = wire::Manifest;
    const SHAPE: Shape = Shape {
        name: "manifest",
        most_bytes: limits::MANIFEST_BYTES,
        fields: &[
            plain(1),
            one(2, &MODEL),
            one(3, &TOKENISER),
            one(4, &DATA),
            plain(5),
            one(6, &NUMBERS),
            one(7, &NUMBERS),
            one(8, &OUTER),
            one(9, &NUMBERS),
            one(10, &NUMBERS),
            one(11, &NUMBERS),
            shape::list(12, "Manifest.founders", limits::FOUNDERS, &FOUNDER),
            plain(13),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        let founder = |f: &Founder| wire::Founder {
            peer: f.peer.to_wire(),
            weight: f.weight.0,
        };
        let (initial_seed, initial_weights) = match &self.initial {
            Initial::Seed(seed) => (seed.to_vec(), Vec::new()),
            Initial::Weights(hash) => (Vec::new(), hash.to_wire()),
        };
        wire::Manifest {
            name: self.name.clone(),
            model: Some(model_to_wire(&self.model)),
            tokeniser: Some(tokeniser_to_wire(&self.tokeniser)),
            data: Some(data_to_wire(&self.data)),
            initial_seed,
            inner: Some(inner_to_wire(&self.inner)),
            compression: Some((&self.compression).into()),
            outer: Some(outer_to_wire(&self.outer)),
            timing: Some((&self.timing).into()),
            limits: Some((&self.limits).into()),
            membership: Some((&self.membership).into()),
            founders: self.founders.iter().map(founder).collect(),
            initial_weights,
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        let initial = match (
            wire.initial_seed.as_slice(),
            wire.initial_weights.as_slice(),
        ) {
            (seed, []) => Initial::Seed(BlobHash::from_wire("Manifest.initial_seed", seed)?.into()),
            ([], hash) => Initial::Weights(BlobHash::from_wire("Manifest.initial_weights", hash)?),
            (_, hash) => {
                let (field, bytes) = (
                    "Manifest.initial_weights beside Manifest.initial_seed",
                    hash.len(),
                );
                return Err(DecodeError::WrongLength {
                    field,
                    bytes,
                    expected: 0,
                });
            }
        };
        let founders = list(wire.founders, |f| {
            Ok(Founder {
                peer: PeerId::from_wire("Founder.peer", &f.peer)?,
                weight: Weight(f.weight),
            })
        })?;
        let manifest = Self {
            name: wire.name,
            model: model_from_wire(required("Manifest.model", wire.model)?),
            tokeniser: tokeniser_from_wire(required("Manifest.tokeniser", wire.tokeniser)?)?,
            data: data_from_wire(required("Manifest.data", wire.data)?)?,
            initial,
            inner: inner_from_wire(required("Manifest.inner", wire.inner)?)?,
            compression: required("Manifest.compression", wire.compression)?.into(),
            outer: outer_from_wire(required("Manifest.outer", wire.outer)?)?,
            timing: required("Manifest.timing", wire.timing)?.into(),
            limits: required("Manifest.limits", wire.limits)?.into(),
            membership: required("Manifest.membership", wire.membership)?.into(),
            founders,
        };
        manifest.validate()?;
        Ok(manifest)
    }
}

fn model_to_wire(model: &Model) -> wire::Model {
    wire::Model {
        vocabulary: model.vocabulary,
        width: model.width,
        layers: model.layers,
        heads: model.heads,
        kv_heads: model.kv_heads,
        feed_forward: model.feed_forward,
        context: model.context,
        tied_embeddings: model.tied_embeddings,
        rope_theta: model.rope_theta,
        norm_epsilon_ppb: model.norm_epsilon_ppb,
        head_width: model.head_width,
        query_key_norm: model.query_key_norm,
        rope_scaling: model.rope_scaling.as_ref().map(Into::into),
    }
}

fn model_from_wire(wire: wire::Model) -> Model {
    Model {
        vocabulary: wire.vocabulary,
        width: wire.width,
        layers: wire.layers,
        heads: wire.heads,
        kv_heads: wire.kv_heads,
        feed_forward: wire.feed_forward,
        context: wire.context,
        tied_embeddings: wire.tied_embeddings,
        rope_theta: wire.rope_theta,
        norm_epsilon_ppb: wire.norm_epsilon_ppb,
        head_width: wire.head_width,
        query_key_norm: wire.query_key_norm,
        rope_scaling: wire.rope_scaling.map(Into::into),
    }
}

fn inner_to_wire(inner: &Inner) -> wire::Inner {
    let optimiser = match inner.optimiser {
        Optimiser::AdamW => wire::Optimiser::Adamw,
        Optimiser::Muon => wire::Optimiser::Muon,
    };
    let schedule = match inner.schedule {
        Schedule::Cosine => wire::Schedule::Cosine,
        Schedule::Wsd => wire::Schedule::Wsd,
    };
    wire::Inner {
        steps: inner.steps,
        batch: inner.batch,
        peak_learning_rate_ppb: inner.peak_learning_rate_ppb,
        warmup_steps: inner.warmup_steps,
        decay_steps: inner.decay_steps,
        final_rate_ppm: inner.final_rate_ppm,
        beta1_ppm: inner.beta1_ppm,
        beta2_ppm: inner.beta2_ppm,
        weight_decay_ppm: inner.weight_decay_ppm,
        gradient_clip_ppm: inner.gradient_clip_ppm,
        optimiser: optimiser.into(),
        momentum_ppm: inner.momentum_ppm,
        schedule: schedule.into(),
        decay_start: inner.decay_start,
    }
}

fn inner_from_wire(wire: wire::Inner) -> Result<Inner, DecodeError> {
    let unknown = |field, value: i32| DecodeError::UnknownValue {
        field,
        value: value.into(),
    };
    let optimiser = match wire::Optimiser::try_from(wire.optimiser) {
        Ok(wire::Optimiser::Adamw) => Optimiser::AdamW,
        Ok(wire::Optimiser::Muon) => Optimiser::Muon,
        _ => return Err(unknown("Inner.optimiser", wire.optimiser)),
    };
    let schedule = match wire::Schedule::try_from(wire.schedule) {
        Ok(wire::Schedule::Cosine) => Schedule::Cosine,
        Ok(wire::Schedule::Wsd) => Schedule::Wsd,
        _ => return Err(unknown("Inner.schedule", wire.schedule)),
    };
    Ok(Inner {
        steps: wire.steps,
        batch: wire.batch,
        peak_learning_rate_ppb: wire.peak_learning_rate_ppb,
        warmup_steps: wire.warmup_steps,
        decay_steps: wire.decay_steps,
        final_rate_ppm: wire.final_rate_ppm,
        beta1_ppm: wire.beta1_ppm,
        beta2_ppm: wire.beta2_ppm,
        weight_decay_ppm: wire.weight_decay_ppm,
        gradient_clip_ppm: wire.gradient_clip_ppm,
        optimiser,
        momentum_ppm: wire.momentum_ppm,
        schedule,
        decay_start: wire.decay_start,
    })
}

fn tokeniser_to_wire(tokeniser: &Tokeniser) -> wire::Tokeniser {
    match tokeniser {
        Tokeniser::Bytes => wire::Tokeniser {
            file: Vec::new(),
            file_bytes: 0,
            end_of_text: 0,
        },
        Tokeniser::File {
            hash,
            bytes,
            end_of_text,
        } => wire::Tokeniser {
            file: hash.to_wire(),
            file_bytes: *bytes,
            end_of_text: end_of_text.map_or(0, |token| token.saturating_add(1)),
        },
    }
}

fn tokeniser_from_wire(wire: wire::Tokeniser) -> Result<Tokeniser, DecodeError> {
    if wire.file.is_empty() {
        return Ok(Tokeniser::Bytes);
    }
    Ok(Tokeniser::File {
        hash: BlobHash::from_wire("Tokeniser.file", &wire.file)?,
        bytes: wire.file_bytes,
        end_of_text: wire.end_of_text.checked_sub(1),
    })
}

fn data_to_wire(data: &Data) -> wire::Data {
    let none = wire::Data {
        sources: Vec::new(),
        generator: None,
        prepared: None,
    };
    match data {
        Data::Sources(sources) => {
            let source = |s: &DataSource| wire::DataSource {
                name: s.name.clone(),
                hash: s.hash.to_wire(),
                bytes: s.bytes,
            };
            wire::Data {
                sources: sources.iter().map(source).collect(),
                ..none
            }
        }
        Data::Prepared(tokens) => {
            let tokens = wire::PreparedTokens {
                token_bytes: tokens.token_bytes,
                training: Some(part_to_wire(&tokens.training)),
                heldout: Some(part_to_wire(&tokens.heldout)),
            };
            wire::Data {
                prepared: Some(tokens),
                ..none
            }
        }
        Data::Generator { seed, bytes } => wire::Data {
            generator: Some(wire::Generator {
                seed: *seed,
                bytes: *bytes,
            }),
            ..none
        },
    }
}

fn part_to_wire(part: &TokenPart) -> wire::TokenPart {
    let shard = |s: &TokenShard| wire::TokenShard {
        hash: s.hash.to_wire(),
        bytes: s.bytes,
        tokens: s.tokens,
    };
    wire::TokenPart {
        text_bytes: part.text_bytes,
        shards: part.shards.iter().map(shard).collect(),
    }
}

fn data_from_wire(wire: wire::Data) -> Result<Data, DecodeError> {
    let kinds = [
        !wire.sources.is_empty(),
        wire.generator.is_some(),
        wire.prepared.is_some(),
    ];
    let count = kinds.into_iter().filter(|is_there| *is_there).count();
    if count > 1 {
        return Err(DecodeError::TooMany {
            field: "Data.sources, generator, prepared",
            count,
            limit: 1,
        });
    }
    if let Some(wire::Generator { seed, bytes }) = wire.generator {
        return Ok(Data::Generator { seed, bytes });
    }
    if let Some(tokens) = wire.prepared {
        return Ok(Data::Prepared(PreparedTokens {
            token_bytes: tokens.token_bytes,
            training: part_from_wire(required("PreparedTokens.training", tokens.training)?)?,
            heldout: part_from_wire(required("PreparedTokens.heldout", tokens.heldout)?)?,
        }));
    }
    list(wire.sources, |s| {
        Ok(DataSource {
            name: s.name,
            hash: BlobHash::from_wire("DataSource.hash", &s.hash)?,
            bytes: s.bytes,
        })
    })
    .map(Data::Sources)
}

fn part_from_wire(wire: wire::TokenPart) -> Result<TokenPart, DecodeError> {
    let shard = |s: wire::TokenShard| {
        Ok(TokenShard {
            hash: BlobHash::from_wire("TokenShard.hash", &s.hash)?,
            bytes: s.bytes,
            tokens: s.tokens,
        })
    };
    Ok(TokenPart {
        text_bytes: wire.text_bytes,
        shards: list(wire.shards, shard)?,
    })
}

fn outer_to_wire(outer: &Outer) -> wire::Outer {
    let rule = match outer.rule {
        AggregationRule::MeanOfSenders => wire::AggregationRule::MeanOfSenders,
        AggregationRule::MeanOfAll => wire::AggregationRule::MeanOfAll,
        AggregationRule::RootOfSenders => wire::AggregationRule::RootOfSenders,
    };
    wire::Outer {
        rule: rule.into(),
        rates: outer.rates.iter().map(Into::into).collect(),
    }
}

fn outer_from_wire(wire: wire::Outer) -> Result<Outer, DecodeError> {
    let rule = match wire::AggregationRule::try_from(wire.rule) {
        Ok(wire::AggregationRule::MeanOfSenders) => AggregationRule::MeanOfSenders,
        Ok(wire::AggregationRule::MeanOfAll) => AggregationRule::MeanOfAll,
        Ok(wire::AggregationRule::RootOfSenders) => AggregationRule::RootOfSenders,
        _ => {
            return Err(DecodeError::UnknownValue {
                field: "Outer.rule",
                value: i64::from(wire.rule),
            });
        }
    };
    let rates = list(wire.rates, |rate| Ok(rate.into()))?;
    Ok(Outer { rule, rates })
}
