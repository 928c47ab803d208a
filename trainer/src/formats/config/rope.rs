//! The rotary part of a `config.json`, in the places and under the names that it had over the
//! years: `rope_theta` and `rope_scaling` at the top (transformers 4), `rope_parameters` with both
//! inside (transformers 5), and one such object for each type of layer.

use serde_json::{Value, json};

use super::keys::{Keys, whole};
use crate::features::{RopeScaling, RopeScalingKind};
use crate::formats::architecture::Family;
use crate::spec::ModelSpec;

/// YaRN's bounds, in turns, where a file does not say.
const YARN_FAST: f64 = 32.0;
const YARN_SLOW: f64 = 1.0;

/// How queries and keys rotate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rope {
    pub theta: u32,
    pub scaling: Option<RopeScaling>,
    /// The base of windowed layers, if they rotate in another way.
    pub window_theta: Option<u32>,
    /// The part of each head that rotates.
    pub part: f64,
}

/// Reads how queries and keys rotate.
pub(super) fn read(family: Family, keys: Keys<'_>) -> Result<Rope, String> {
    let new = keys.below("rope_parameters")?;
    let by_layer = |name: &str| new.map_or(Ok(None), |new| new.below(name));
    let (full, windowed) = (by_layer("full_attention")?, by_layer("sliding_attention")?);
    let has_two = matches!(family, Family::Gemma3 | Family::Olmo3);
    // Where both places are filled, transformers takes the old one.
    let old = keys.below("rope_scaling")?;
    let flat = new.filter(|_| full.is_none() && windowed.is_none());
    let scaled = old.or(full).or(flat);
    let top = keys.number("rope_theta")?;
    let inside = |rope: Option<Keys<'_>>| rope.map_or(Ok(None), |rope| rope.number("rope_theta"));
    let default = family.defaults().rope_theta;
    let theta = inside(scaled)?
        .or(if has_two { inside(full)? } else { None })
        .or(top)
        .unwrap_or(default);
    let theta = whole("rope_theta", theta, 1.0)?;
    let scaling = scaled.map_or(Ok(None), |rope| scaling(family, rope, keys))?;

    let window_theta = match (family, windowed) {
        (_, Some(rope)) => {
            let kind = kind(rope)?;
            if kind.is_some_and(|kind| kind != "default") {
                return Err(format!(
                    "rope_parameters.sliding_attention has the type {:?}; only \"default\" is \
                     supported",
                    kind.unwrap_or_default()
                ));
            }
            let of_window = rope.number("rope_theta")?;
            of_window.unwrap_or(if family == Family::Gemma3 {
                1e4
            } else {
                f64::from(theta)
            })
        }
        (Family::Gemma3, None) => keys.number("rope_local_base_freq")?.unwrap_or(1e4),
        _ => f64::from(theta),
    };
    let window_theta = whole("rope_local_base_freq", window_theta, 1.0)?;
    let differs = window_theta != theta || scaling.is_some();
    let has_own = has_two || windowed.is_some();
    Ok(Rope {
        theta,
        scaling,
        window_theta: (has_own && differs).then_some(window_theta),
        part: part(family, scaled, keys)?,
    })
}

/// The part of each head that rotates. Only Phi-3 has one; transformers overlooks one beside the
/// rotation of other architectures.
fn part(family: Family, rope: Option<Keys<'_>>, keys: Keys<'_>) -> Result<f64, String> {
    const KEY: &str = "partial_rotary_factor";
    let inside = rope.map_or(Ok(None), |rope| rope.number(KEY))?;
    if family == Family::Phi3 {
        return Ok(inside.or(keys.number(KEY)?).unwrap_or(1.0));
    }
    match inside {
        Some(part) if part != 1.0 => Err(format!(
            "{KEY} is {part}; only 1 is supported for {}",
            family.model_type()
        )),
        _ => Ok(1.0),
    }
}

/// The type of a scaling, under its new name or its old one.
fn kind<'a>(rope: Keys<'a>) -> Result<Option<&'a str>, String> {
    let text = |key| match rope.given(key) {
        Some(_) => rope.text(key),
        None => Ok(None),
    };
    let (new, old) = (text("rope_type")?, text("type")?);
    Ok(new.or(old))
}

fn scaling(family: Family, rope: Keys<'_>, keys: Keys<'_>) -> Result<Option<RopeScaling>, String> {
    let needed = |key: &str| {
        rope.number(key)?
            .ok_or_else(|| format!("rope_scaling has no {key}"))
    };
    let original = || {
        let context = keys.count("max_position_embeddings")?;
        let inside = rope.count("original_max_position_embeddings")?;
        let top = keys.count("original_max_position_embeddings")?;
        Ok::<_, String>(
            top.or(inside)
                .or(context)
                .unwrap_or(family.defaults().context) as u32,
        )
    };
    let kind = kind(rope)?.unwrap_or("default");
    match kind {
        "default" => Ok(None),
        "linear" => {
            let factor = whole("factor", needed("factor")?, 1e6)?;
            Ok(Some(RopeScaling::linear(factor)))
        }
        "llama3" => Ok(Some(RopeScaling {
            kind: RopeScalingKind::Llama3,
            low_frequency_ppm: whole("low_freq_factor", needed("low_freq_factor")?, 1e6)?,
            high_frequency_ppm: whole("high_freq_factor", needed("high_freq_factor")?, 1e6)?,
            original_context: original()?,
            ..RopeScaling::linear(whole("factor", needed("factor")?, 1e6)?)
        })),
        "yarn" if family != Family::Phi3 => {
            let original = original()?;
            let context = keys.count("max_position_embeddings")?;
            let context = context.unwrap_or(family.defaults().context) as f64;
            let factor = rope.number("factor")?;
            let factor = factor.unwrap_or(context / f64::from(original).max(1.0));
            yarn(rope, factor, original).map(Some)
        }
        other => Err(format!(
            "rope_scaling has the type {other:?}; supported are default, linear, llama3 and yarn{}",
            if family == Family::Phi3 {
                ", of which Phi-3 has no yarn"
            } else {
                ""
            }
        )),
    }
}

fn yarn(rope: Keys<'_>, factor: f64, original_context: u32) -> Result<RopeScaling, String> {
    let bound = |key: &str, default: f64| {
        let given = rope.number(key)?.filter(|number| *number != 0.0);
        whole(key, given.unwrap_or(default), 1e6)
    };
    let attention = match rope.number("attention_factor")? {
        Some(factor) => factor,
        None => {
            let set = |key: &str| Ok::<_, String>(rope.number(key)?.filter(|n| *n != 0.0));
            match (set("mscale")?, set("mscale_all_dim")?) {
                (Some(one), Some(all)) => magnitude(factor, one) / magnitude(factor, all),
                _ => magnitude(factor, 1.0),
            }
        }
    };
    if !(attention > 0.0 && attention < 4.0) {
        return Err(format!(
            "attention_factor is {attention}; it must be more than 0 and less than 4"
        ));
    }
    Ok(RopeScaling {
        kind: RopeScalingKind::Yarn,
        low_frequency_ppm: bound("beta_slow", YARN_SLOW)?,
        high_frequency_ppm: bound("beta_fast", YARN_FAST)?,
        original_context,
        attention_factor_ppb: (attention * 1e9).round() as u32,
        whole_components: rope.flag("truncate")?.unwrap_or(true),
        ..RopeScaling::linear(whole("factor", factor, 1e6)?)
    })
}

/// YaRN's factor of queries and keys.
fn magnitude(factor: f64, share: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * share * factor.ln() + 1.0
    }
}

/// The keys of a model's rotation, in the places of transformers 4 that version 5 reads too.
pub(super) fn write(family: Family, model: &ModelSpec) -> Vec<(&'static str, Value)> {
    let theta = f64::from(model.rope_theta);
    let mut keys = vec![
        ("rope_theta", json!(theta)),
        (
            "rope_scaling",
            model
                .rope_scaling
                .as_ref()
                .map_or(Value::Null, scaling_json),
        ),
    ];
    let window_theta = model.features.window_rope_theta;
    match family {
        Family::Gemma3 => keys.push((
            "rope_local_base_freq",
            json!(window_theta.map_or(theta, f64::from)),
        )),
        Family::Phi3 => {
            let part = model.rotary_width() as f64 / model.head_width() as f64;
            keys.push(("partial_rotary_factor", json!(part)));
        }
        // Without this, transformers 5 gives windowed layers the base of the published models.
        Family::Olmo3 => {
            let mut full = model
                .rope_scaling
                .as_ref()
                .map_or_else(|| json!({ "rope_type": "default" }), scaling_json);
            full["rope_theta"] = json!(theta);
            let own = window_theta.map_or(theta, f64::from);
            let windowed = json!({ "rope_type": "default", "rope_theta": own });
            let both = json!({ "full_attention": full, "sliding_attention": windowed });
            keys.push(("rope_parameters", both));
        }
        _ => {}
    }
    keys
}

fn scaling_json(scaling: &RopeScaling) -> Value {
    let part = |ppm: u32| f64::from(ppm) / 1e6;
    let factor = part(scaling.factor_ppm);
    let (low, high) = (
        part(scaling.low_frequency_ppm),
        part(scaling.high_frequency_ppm),
    );
    match scaling.kind {
        RopeScalingKind::Linear => json!({ "rope_type": "linear", "factor": factor }),
        RopeScalingKind::Llama3 => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": scaling.original_context,
        }),
        RopeScalingKind::Yarn => json!({
            "rope_type": "yarn",
            "factor": factor,
            "beta_slow": low,
            "beta_fast": high,
            "original_max_position_embeddings": scaling.original_context,
            "attention_factor": f64::from(scaling.attention_factor_ppb) / 1e9,
            "truncate": scaling.whole_components,
        }),
    }
}
