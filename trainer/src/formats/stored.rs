//! How a model's tensors are stored in Hugging Face's files: some in one matrix, and gains less
//! one.

use std::ops::Range;

use weal_kernels::Layout;

use super::architecture::Family;
use crate::spec::ModelSpec;

/// A tensor of a file: one tensor of the layout, or several that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredTensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Its tensors in the layout.
    pub tensors: Range<usize>,
    /// Whether the file holds the gain of a norm less one.
    pub less_one: bool,
}

impl StoredTensor {
    /// Its values in the flat vector.
    pub(super) fn values(&self, layout: &Layout) -> Range<usize> {
        let end = self.tensors.end.saturating_sub(1);
        layout.range(self.tensors.start).start..layout.range(end).end
    }
}

/// The tensors that an architecture stores, in the layout's order.
pub(super) fn stored_tensors(
    family: Family,
    model: &ModelSpec,
    layout: &Layout,
) -> Vec<StoredTensor> {
    let mut stored: Vec<StoredTensor> = Vec::with_capacity(layout.tensors().len());
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let name = &tensor.name;
        if model.features.fused_projections {
            let last = stored.last_mut();
            let is_later = ["self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj"]
                .iter()
                .any(|later| name.ends_with(&format!("{later}.weight")));
            if let (Some(last), true) = (last, is_later) {
                last.tensors.end = index + 1;
                last.shape[0] += tensor.shape[0];
                continue;
            }
        }
        let name = if model.features.fused_projections {
            name.replace("self_attn.q_proj", "self_attn.qkv_proj")
                .replace("mlp.gate_proj", "mlp.gate_up_proj")
        } else {
            name.clone()
        };
        stored.push(StoredTensor {
            less_one: family.is_gemma() && name.ends_with("norm.weight"),
            name,
            shape: tensor.shape.clone(),
            tensors: index..index + 1,
        });
    }
    stored
}

/// Our name of a tensor in a file: some programs leave `model.` out, and models that also read
/// images have more before it.
pub(super) fn usual_name(name: &str) -> String {
    let inner = name
        .strip_prefix("language_model.")
        .or_else(|| name.strip_prefix("model.language_model."));
    let inner = inner.unwrap_or(name);
    if inner.starts_with("model.") || inner.starts_with("lm_head.") {
        inner.to_owned()
    } else {
        format!("model.{inner}")
    }
}

/// Whether a tensor belongs to the part of a model that reads images.
pub(super) fn reads_images(name: &str) -> bool {
    let name = name.strip_prefix("model.").unwrap_or(name);
    name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Features;

    #[test]
    fn fused_projections_are_stored_in_one_matrix() {
        let model = ModelSpec {
            features: Features {
                fused_projections: true,
                ..Features::default()
            },
            ..ModelSpec::preset("nano").unwrap()
        };
        let layout = model.layout().unwrap();
        let stored = stored_tensors(Family::Phi3, &model, &layout);
        let found = |name: &str| {
            let name = format!("model.layers.1.{name}.weight");
            stored.iter().find(|tensor| tensor.name == name).unwrap()
        };
        assert_eq!(found("self_attn.qkv_proj").shape, [3 * 128, 128]);
        assert_eq!(found("self_attn.qkv_proj").tensors.len(), 3);
        assert_eq!(found("mlp.gate_up_proj").shape, [2 * 352, 128]);
        let sizes = stored.iter().map(|tensor| tensor.values(&layout).len());
        assert_eq!(sizes.sum::<usize>(), layout.parameters());
    }

    #[test]
    fn names_are_found_with_and_without_what_stands_before_them() {
        let name = "model.layers.0.mlp.up_proj.weight";
        for given in [
            name,
            "layers.0.mlp.up_proj.weight",
            "language_model.model.layers.0.mlp.up_proj.weight",
            "model.language_model.layers.0.mlp.up_proj.weight",
        ] {
            assert_eq!(usual_name(given), name);
        }
        assert_eq!(
            usual_name("language_model.lm_head.weight"),
            "lm_head.weight"
        );
        assert!(reads_images("model.vision_tower.vision_model.x") && !reads_images(name));
    }
}
