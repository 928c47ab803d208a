//! What trainer and kernels make of a manifest's training.

use weal_kernels::Rule;
use weal_proto::manifest::{self, AggregationRule, Inner, PPM};
use weal_trainer::{InnerSpec, Optimiser, Schedule};

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
pub(super) fn outer_rule(rule: AggregationRule) -> Rule {
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
