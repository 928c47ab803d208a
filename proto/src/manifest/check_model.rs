//! The rules that a manifest's model must keep.

use super::check::{MOST_VOCABULARY, unless, within};
use super::model::MOST_LAYERS;
use super::{Model, PPM, RopeScaling, RopeScalingKind};
use crate::error::ManifestError;

/// Limit on the parameters of a model: 2^40 f32 values are 4 TiB.
const MOST_PARAMETERS: u64 = 1 << 40;

pub(super) fn model(m: &Model) -> Result<(), ManifestError> {
    within("model.vocabulary", m.vocabulary, 2, MOST_VOCABULARY)?;
    within("model.width", m.width, 2, 1 << 16)?;
    within("model.layers", m.layers, 1, MOST_LAYERS)?;
    within("model.heads", m.heads, 1, 1 << 10)?;
    within("model.kv_heads", m.kv_heads, 1, m.heads)?;
    within("model.feed_forward", m.feed_forward, 1, 1 << 18)?;
    within("model.context", m.context, 2, 1 << 20)?;
    within("model.rope_theta", m.rope_theta, 1, u32::MAX)?;
    within("model.norm_epsilon_ppb", m.norm_epsilon_ppb, 1, PPM)?;
    heads(m)?;
    layer_kinds(m)?;
    m.rope_scaling.iter().try_for_each(rope_scaling)?;
    let has_bias = m.query_key_value_bias || m.output_bias || m.feed_forward_bias;
    unless(
        !(m.fused_projections && has_bias),
        "model.fused_projections",
        true,
        "true only for projections without biases",
    )?;
    within("model (parameters)", m.parameters(), 1, MOST_PARAMETERS)
}

fn heads(m: &Model) -> Result<(), ManifestError> {
    let width = if m.head_width == 0 {
        let even = m.width.is_multiple_of(m.heads) && (m.width / m.heads).is_multiple_of(2);
        let accepted =
            format_args!("a divisor of the width {} with an even quotient", m.width).to_string();
        unless(even, "model.heads", m.heads, accepted)?;
        m.width / m.heads
    } else {
        within("model.head_width", m.head_width, 2, 1 << 12)?;
        unless(
            m.head_width.is_multiple_of(2),
            "model.head_width",
            m.head_width,
            "an even number",
        )?;
        m.head_width
    };
    unless(
        m.heads.is_multiple_of(m.kv_heads),
        "model.kv_heads",
        m.kv_heads,
        format_args!("a divisor of the {} heads", m.heads),
    )?;
    unless(
        m.rotary_width.is_multiple_of(2) && m.rotary_width <= width,
        "model.rotary_width",
        m.rotary_width,
        format_args!("0, or an even number of at most {width}"),
    )
}

/// Exactly one encoding of each pattern of layers is accepted.
fn layer_kinds(m: &Model) -> Result<(), ManifestError> {
    let kinds = &m.layer_kinds;
    let expected = if kinds.is_empty() { 0 } else { m.layers };
    let length = u32::try_from(kinds.len()).unwrap_or(u32::MAX);
    within("model.layer_kinds (bytes)", length, expected, expected)?;
    let most = Model::WINDOWED | Model::UNROTATED;
    for kind in kinds {
        within("model.layer_kinds", *kind, 0, most)?;
    }
    unless(
        kinds.is_empty() || kinds.iter().any(|kind| *kind != 0),
        "model.layer_kinds",
        "all 0",
        "none if all are 0",
    )?;
    let is_windowed = kinds.iter().any(|kind| kind & Model::WINDOWED != 0);
    if is_windowed {
        within("model.window", m.window, 1, u32::MAX)
    } else {
        within("model.window", m.window, 0, 0)?;
        within("model.window_rope_theta", m.window_rope_theta, 0, 0)
    }
}

fn rope_scaling(s: &RopeScaling) -> Result<(), ManifestError> {
    const LOW: &str = "model.rope_scaling.low_frequency_ppm";
    const HIGH: &str = "model.rope_scaling.high_frequency_ppm";
    const ORIGINAL: &str = "model.rope_scaling.original_context";
    const ATTENTION: &str = "model.rope_scaling.attention_factor_ppb";
    within("model.rope_scaling.factor_ppm", s.factor_ppm, PPM, u32::MAX)?;
    if s.kind == RopeScalingKind::Linear {
        within(LOW, s.low_frequency_ppm, 0, 0)?;
        within(HIGH, s.high_frequency_ppm, 0, 0)?;
        within(ORIGINAL, s.original_context, 0, 0)?;
    } else {
        within(LOW, s.low_frequency_ppm, 1, u32::MAX - 1)?;
        let above = s.low_frequency_ppm.saturating_add(1);
        within(HIGH, s.high_frequency_ppm, above, u32::MAX)?;
        within(ORIGINAL, s.original_context, 1, u32::MAX)?;
    }
    if s.kind == RopeScalingKind::Yarn {
        return within(ATTENTION, s.attention_factor_ppb, 1, u32::MAX);
    }
    within(ATTENTION, s.attention_factor_ppb, 0, 0)?;
    unless(
        !s.whole_components,
        "model.rope_scaling.whole_components",
        true,
        "false, but for YaRN",
    )
}
