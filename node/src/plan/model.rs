//! The manifest's model and the trainer's, in both directions.

use weal_proto::manifest::{self, Model};
use weal_trainer::{
    Activation, Biases, Features, LayerKind, ModelSpec, NormPlacement, QueryKeyNorm, RopeScaling,
    RopeScalingKind,
};

/// Defines the conversions between an enum of the manifest and the trainer's of the same variants.
macro_rules! same {
    ($name:ident: $to_spec:ident, $to_manifest:ident, [$($variant:ident),+]) => {
        fn $to_spec(value: manifest::$name) -> $name {
            match value {
                $(manifest::$name::$variant => $name::$variant,)+
            }
        }

        fn $to_manifest(value: $name) -> manifest::$name {
            match value {
                $($name::$variant => manifest::$name::$variant,)+
            }
        }
    };
}

same!(QueryKeyNorm: query_key_norm, manifest_query_key_norm, [None, Head, Whole]);
same!(NormPlacement: norm_placement, manifest_norm_placement, [Before, After, Both]);
same!(Activation: activation, manifest_activation, [Silu, GeluTanh]);
same!(RopeScalingKind: scaling_kind, manifest_scaling_kind, [Llama3, Linear, Yarn]);

/// The trainer's sizes and features of a manifest's model.
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
        head_width: set(model.head_width).map(|width| width as usize),
        query_key_norm: query_key_norm(model.query_key_norm),
        rope_scaling: model.rope_scaling.map(|scaling| RopeScaling {
            kind: scaling_kind(scaling.kind),
            factor_ppm: scaling.factor_ppm,
            low_frequency_ppm: scaling.low_frequency_ppm,
            high_frequency_ppm: scaling.high_frequency_ppm,
            original_context: scaling.original_context,
            attention_factor_ppb: scaling.attention_factor_ppb,
            whole_components: scaling.whole_components,
        }),
        features: features(model),
    }
}

fn features(model: &Model) -> Features {
    let kind = |byte: &u8| LayerKind {
        windowed: byte & Model::WINDOWED != 0,
        unrotated: byte & Model::UNROTATED != 0,
    };
    Features {
        biases: Biases {
            query_key_value: model.query_key_value_bias,
            output: model.output_bias,
            feed_forward: model.feed_forward_bias,
        },
        norm_placement: norm_placement(model.norm_placement),
        activation: activation(model.activation),
        scaled_embedding: model.scaled_embedding,
        score_divisor: set(model.score_divisor),
        score_cap_ppm: set(model.score_cap_ppm),
        logit_cap_ppm: set(model.logit_cap_ppm),
        window: set(model.window),
        layer_kinds: model.layer_kinds.iter().map(kind).collect(),
        window_rope_theta: set(model.window_rope_theta),
        rotary_width: set(model.rotary_width).map(|width| width as usize),
        fused_projections: model.fused_projections,
    }
}

/// A number of the manifest, where 0 means none.
fn set(number: u32) -> Option<u32> {
    Some(number).filter(|number| *number != 0)
}

/// A manifest's model of the trainer's sizes and features.
///
/// # Errors
/// Which size does not fit into 32 bits.
pub(crate) fn manifest_model(spec: &ModelSpec) -> Result<Model, String> {
    let size = |key: &str, value: usize| {
        u32::try_from(value).map_err(|_| format!("model.{key} is {value}: too large"))
    };
    let features = &spec.features;
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
        query_key_norm: manifest_query_key_norm(spec.query_key_norm),
        rope_scaling: spec.rope_scaling.map(|scaling| manifest::RopeScaling {
            factor_ppm: scaling.factor_ppm,
            low_frequency_ppm: scaling.low_frequency_ppm,
            high_frequency_ppm: scaling.high_frequency_ppm,
            original_context: scaling.original_context,
            kind: manifest_scaling_kind(scaling.kind),
            attention_factor_ppb: scaling.attention_factor_ppb,
            whole_components: scaling.whole_components,
        }),
        query_key_value_bias: features.biases.query_key_value,
        output_bias: features.biases.output,
        feed_forward_bias: features.biases.feed_forward,
        norm_placement: manifest_norm_placement(features.norm_placement),
        activation: manifest_activation(features.activation),
        scaled_embedding: features.scaled_embedding,
        score_divisor: features.score_divisor.unwrap_or(0),
        score_cap_ppm: features.score_cap_ppm.unwrap_or(0),
        logit_cap_ppm: features.logit_cap_ppm.unwrap_or(0),
        window: features.window.unwrap_or(0),
        layer_kinds: features.layer_kinds.iter().map(layer_byte).collect(),
        window_rope_theta: features.window_rope_theta.unwrap_or(0),
        rotary_width: size("rotary_width", features.rotary_width.unwrap_or(0))?,
        fused_projections: features.fused_projections,
    })
}

fn layer_byte(kind: &LayerKind) -> u8 {
    let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    bit(kind.windowed, Model::WINDOWED) | bit(kind.unrotated, Model::UNROTATED)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn one_of<T: Copy>(choices: &[T], random: &mut impl Rng) -> T {
        *choices.choose(random).unwrap()
    }

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
            head_width: one_of(&[0, 6, 64], random),
            query_key_norm: one_of(&manifest::QueryKeyNorm::ALL, random),
            rope_scaling: random.random::<bool>().then(|| manifest::RopeScaling {
                factor_ppm: random.random(),
                low_frequency_ppm: random.random(),
                high_frequency_ppm: random.random(),
                original_context: random.random(),
                kind: one_of(&manifest::RopeScalingKind::ALL, random),
                attention_factor_ppb: random.random(),
                whole_components: random.random(),
            }),
            query_key_value_bias: random.random(),
            output_bias: random.random(),
            feed_forward_bias: random.random(),
            norm_placement: one_of(&manifest::NormPlacement::ALL, random),
            activation: one_of(&manifest::Activation::ALL, random),
            scaled_embedding: random.random(),
            score_divisor: one_of(&[0, 24], random),
            score_cap_ppm: one_of(&[0, 50_000_000], random),
            logit_cap_ppm: one_of(&[0, 30_000_000], random),
            window: one_of(&[0, 512], random),
            layer_kinds: (0..one_of(&[0, 5], random))
                .map(|_| random.random_range(0..4))
                .collect(),
            window_rope_theta: one_of(&[0, 10_000], random),
            rotary_width: one_of(&[0, 4], random),
            fused_projections: random.random(),
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
