//! The manifest's types and those of trainer and kernels, in both directions.

use weal_kernels::Rule;
use weal_proto::manifest::{self, AggregationRule, Inner, Model, PPM};
use weal_trainer::{InnerSpec, ModelSpec, Optimiser, RopeScaling, Schedule};

/// The trainer's sizes of a manifest's model.
pub(crate) fn model_spec(model: &Model) -> ModelSpec {
    ModelSpec {
        vocabulary: model.vocabulary as usize,
        width: model.width as usize,
        layers: model.layers as usize,
        heads: model.heads as usize,
        kv_heads: model.kv_heads as usize,
        feed_forward: model.feed_forward as usize,
        context: model.context as usize,
        tied: model.tied_embeddings,
        rope_theta: model.rope_theta,
        norm_epsilon_ppb: model.norm_epsilon_ppb,
        head_width: Some(model.head_width as usize).filter(|width| *width > 0),
        query_key_norm: model.query_key_norm,
        rope_scaling: model.rope_scaling.map(|scaling| RopeScaling {
            factor_ppm: scaling.factor_ppm,
            low_frequency_ppm: scaling.low_frequency_ppm,
            high_frequency_ppm: scaling.high_frequency_ppm,
            original_context: scaling.original_context,
        }),
    }
}

/// A manifest's model of the trainer's sizes.
///
/// # Errors
/// Which size does not fit into 32 bits.
pub(crate) fn manifest_model(spec: &ModelSpec) -> Result<Model, String> {
    let size = |key: &str, value: usize| {
        u32::try_from(value).map_err(|_| format!("model.{key} is {value}: too large"))
    };
    Ok(Model {
        vocabulary: size("vocabulary", spec.vocabulary)?,
        width: size("width", spec.width)?,
        layers: size("layers", spec.layers)?,
        heads: size("heads", spec.heads)?,
        kv_heads: size("kv_heads", spec.kv_heads)?,
        feed_forward: size("feed_forward", spec.feed_forward)?,
        context: size("context", spec.context)?,
        tied_embeddings: spec.tied,
        rope_theta: spec.rope_theta,
        norm_epsilon_ppb: spec.norm_epsilon_ppb,
        head_width: size("head_width", spec.head_width.unwrap_or(0))?,
        query_key_norm: spec.query_key_norm,
        rope_scaling: spec.rope_scaling.map(|scaling| manifest::RopeScaling {
            factor_ppm: scaling.factor_ppm,
            low_frequency_ppm: scaling.low_frequency_ppm,
            high_frequency_ppm: scaling.high_frequency_ppm,
            original_context: scaling.original_context,
        }),
    })
}

/// The trainer's inner steps of a manifest's.
pub(crate) fn inner_spec(inner: &Inner) -> InnerSpec {
    let (total_steps, floor_ppm) = (u64::from(inner.decay_steps), inner.final_rate_ppm);
    let schedule = match inner.schedule {
        _ if total_steps == 0 => Schedule::Constant,
        manifest::Schedule::Cosine => Schedule::Cosine {
            total_steps,
            floor_ppm,
        },
        manifest::Schedule::Wsd => Schedule::Wsd {
            decay_start: inner.decay_start.into(),
            total_steps,
            floor_ppm,
        },
    };
    let optimiser = match inner.optimiser {
        manifest::Optimiser::AdamW => Optimiser::AdamW,
        manifest::Optimiser::Muon => Optimiser::Muon {
            momentum_ppm: inner.momentum_ppm,
        },
    };
    InnerSpec {
        steps: inner.steps,
        batch: inner.batch,
        learning_rate_ppb: inner.peak_learning_rate_ppb,
        warmup_steps: u64::from(inner.warmup_steps),
        schedule,
        optimiser,
        beta1_ppm: inner.beta1_ppm,
        beta2_ppm: inner.beta2_ppm,
        weight_decay_ppm: inner.weight_decay_ppm,
        clip_ppm: inner.gradient_clip_ppm,
        ..InnerSpec::default()
    }
}

/// The kernels' name of an aggregation rule.
pub(crate) fn outer_rule(rule: AggregationRule) -> Rule {
    match rule {
        AggregationRule::MeanOfSenders => Rule::MeanOfSenders,
        AggregationRule::MeanOfAll => Rule::MeanOfAll,
        AggregationRule::RootOfSenders => Rule::RootOfSenders,
    }
}

/// The outer learning rate as the kernels take it. One conversion of an integer and one division
/// give the same bits on every machine.
pub(crate) fn outer_rate(ppm: u32) -> f32 {
    ppm as f32 / PPM as f32
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn random_model(random: &mut impl Rng) -> Model {
        Model {
            vocabulary: random.random(),
            width: random.random(),
            layers: random.random(),
            heads: random.random(),
            kv_heads: random.random(),
            feed_forward: random.random(),
            context: random.random(),
            tied_embeddings: random.random(),
            rope_theta: random.random(),
            norm_epsilon_ppb: random.random(),
            head_width: if random.random() { random.random() } else { 0 },
            query_key_norm: random.random(),
            rope_scaling: random.random::<bool>().then(|| manifest::RopeScaling {
                factor_ppm: random.random(),
                low_frequency_ppm: random.random(),
                high_frequency_ppm: random.random(),
                original_context: random.random(),
            }),
        }
    }

    #[test]
    fn a_model_survives_the_way_to_the_trainer_and_back() {
        let mut random = StdRng::seed_from_u64(11);
        for _ in 0..1000 {
            let model = random_model(&mut random);
            let spec = model_spec(&model);
            assert_eq!(manifest_model(&spec).as_ref(), Ok(&model));
            assert_eq!(model_spec(&manifest_model(&spec).unwrap()), spec);
        }
    }

    #[test]
    fn every_preset_survives_the_way_to_the_manifest_and_back() {
        for name in weal_trainer::PRESETS {
            let spec = ModelSpec::preset(name).unwrap();
            assert_eq!(model_spec(&manifest_model(&spec).unwrap()), spec, "{name}");
        }
    }

    #[test]
    fn a_size_beyond_32_bits_is_named() {
        let spec = ModelSpec {
            width: 1 << 40,
            ..ModelSpec::preset("nano").unwrap()
        };
        assert!(manifest_model(&spec).unwrap_err().contains("model.width"));
    }
}
