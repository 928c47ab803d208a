//! Which layers of a `config.json` are windowed, and which have no rotary positions.

use serde_json::{Value, json};

use super::keys::Keys;
use crate::features::LayerKind;
use crate::formats::architecture::Family;
use crate::spec::ModelSpec;

const WINDOWED: &str = "sliding_attention";
const FULL: &str = "full_attention";

/// The window, and the kind of each layer; none of either if all layers are plain.
pub(super) fn read(
    family: Family,
    keys: Keys<'_>,
    layers: usize,
) -> Result<(Option<u32>, Vec<LayerKind>), String> {
    let window = window(family, keys)?;
    let rotated = rotated(family, keys, layers)?;
    let windowed = windowed(family, keys, &rotated)?;
    let kinds = windowed
        .iter()
        .zip(rotated)
        .map(|(windowed, rotated)| LayerKind {
            windowed: *windowed && window.is_some(),
            unrotated: !rotated,
        });
    let kinds: Vec<LayerKind> = kinds.collect();
    let window = window.filter(|_| kinds.iter().any(|kind| kind.windowed));
    if kinds.iter().all(|kind| *kind == LayerKind::default()) {
        return Ok((window, Vec::new()));
    }
    Ok((window, kinds))
}

fn window(family: Family, keys: Keys<'_>) -> Result<Option<u32>, String> {
    let is_used = match family {
        Family::Llama | Family::Gemma | Family::Olmo2 => false,
        // These configure a window but mostly disable it.
        Family::Qwen2 | Family::Qwen3 | Family::SmolLm3 => {
            keys.flag("use_sliding_window")?.unwrap_or(false)
        }
        _ => keys.flag("use_sliding_window")?.unwrap_or(true),
    };
    if !is_used {
        return Ok(None);
    }
    let default = if keys.has("sliding_window") {
        None
    } else {
        family.defaults().window
    };
    let window = keys.count("sliding_window")?.or(default);
    match window {
        Some(0) => Err("sliding_window is 0; it must be at least 1, or null".to_owned()),
        window => Ok(window.map(|window| window as u32)),
    }
}

fn rotated(family: Family, keys: Keys<'_>, layers: usize) -> Result<Vec<bool>, String> {
    if family != Family::SmolLm3 {
        return Ok(vec![true; layers]);
    }
    match keys.list("no_rope_layers")? {
        Some(list) => {
            // The name misleads: 1 stands for a layer that rotates.
            let rotates = |value: &Value| match value.as_u64() {
                Some(0) => Ok(false),
                Some(1) => Ok(true),
                _ => Err(format!("no_rope_layers holds {value}; it must be 0 or 1")),
            };
            of_all("no_rope_layers", list, layers, rotates)
        }
        None => {
            let every = keys.count("no_rope_layer_interval")?.unwrap_or(4).max(1);
            Ok((1..=layers).map(|layer| layer % every != 0).collect())
        }
    }
}

fn windowed(family: Family, keys: Keys<'_>, rotated: &[bool]) -> Result<Vec<bool>, String> {
    let layers = rotated.len();
    let ignores_list = matches!(family, Family::Mistral | Family::Phi3);
    if let Some(list) = keys.list("layer_types")?.filter(|_| !ignores_list) {
        let is_windowed = |value: &Value| match value.as_str() {
            Some(WINDOWED) => Ok(true),
            Some(FULL) => Ok(false),
            _ => Err(format!(
                "layer_types holds {value}; supported are {FULL} and {WINDOWED}"
            )),
        };
        return of_all("layer_types", list, layers, is_windowed);
    }
    let all_but_every = |every: usize| {
        (1..=layers)
            .map(|layer| layer % every.max(1) != 0)
            .collect()
    };
    Ok(match family {
        Family::Gemma2 => all_but_every(2),
        Family::Gemma3 => {
            let old = keys.count("sliding_window_pattern")?;
            all_but_every(old.or(keys.count("_sliding_window_pattern")?).unwrap_or(6))
        }
        Family::Olmo3 => all_but_every(4),
        Family::Qwen2 | Family::Qwen3 => {
            let first = keys.count("max_window_layers")?.unwrap_or(28);
            (0..layers).map(|layer| layer >= first).collect()
        }
        Family::SmolLm3 => rotated.iter().map(|rotated| !rotated).collect(),
        _ => vec![true; layers],
    })
}

fn of_all(
    key: &str,
    list: &[Value],
    layers: usize,
    read: impl Fn(&Value) -> Result<bool, String>,
) -> Result<Vec<bool>, String> {
    if list.len() != layers {
        let count = list.len();
        return Err(format!("{key} has {count} entries for {layers} layers"));
    }
    list.iter().map(read).collect()
}

/// The keys of a model's layers.
pub(super) fn write(family: Family, model: &ModelSpec) -> Vec<(&'static str, Value)> {
    let kinds = || (0..model.layers).map(|layer| model.layer_kind(layer));
    let window = json!(model.features.window);
    let types: Vec<&str> = kinds()
        .map(|kind| if kind.windowed { WINDOWED } else { FULL })
        .collect();
    let is_windowed = model.features.window.is_some();
    match family {
        Family::Llama | Family::Gemma | Family::Olmo2 => Vec::new(),
        Family::Mistral | Family::Phi3 => vec![("sliding_window", window)],
        Family::Gemma2 | Family::Gemma3 | Family::Olmo3 => {
            vec![("sliding_window", window), ("layer_types", json!(types))]
        }
        Family::Qwen2 | Family::Qwen3 => {
            let plain = kinds().take_while(|kind| !kind.windowed).count();
            vec![
                ("use_sliding_window", json!(is_windowed)),
                ("sliding_window", window),
                ("max_window_layers", json!(plain)),
                ("layer_types", json!(types)),
            ]
        }
        Family::SmolLm3 => {
            let rotates: Vec<u8> = kinds().map(|kind| u8::from(!kind.unrotated)).collect();
            vec![
                ("use_sliding_window", json!(is_windowed)),
                ("sliding_window", window),
                ("layer_types", json!(types)),
                ("no_rope_layers", json!(rotates)),
            ]
        }
    }
}
