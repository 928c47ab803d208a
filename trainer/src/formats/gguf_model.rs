//! A model in llama.cpp's terms: its architecture, the keys that describe it, and the names and
//! order of its tensors. What llama.cpp would compute in another way is refused by name.

use weal_kernels::Layout;

use super::architecture::Family;
use super::config::family_of;
use super::metadata::Metadata;
use super::stored::{StoredTensor, stored_tensors};
use crate::engine::Angles;
use crate::features::{Activation, RopeScaling, RopeScalingKind};
use crate::spec::ModelSpec;

/// A model that llama.cpp knows.
#[derive(Debug)]
pub(super) struct GgufModel<'a> {
    model: &'a ModelSpec,
    family: Family,
    /// llama.cpp's name of the architecture.
    pub architecture: &'static str,
}

/// A tensor of the file.
#[derive(Debug)]
pub(super) struct GgufTensor {
    pub name: String,
    /// Its tensors in the layout.
    pub stored: StoredTensor,
    /// The heads whose rows are [interleaved](GgufModel::interleaved).
    pub interleaved_heads: Option<usize>,
}

impl<'a> GgufModel<'a> {
    /// # Errors
    /// What llama.cpp does not know of the model.
    pub(super) fn of(model: &'a ModelSpec) -> Result<Self, String> {
        let family = family_of(model)?;
        let architecture = match family {
            Family::Llama | Family::Mistral => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::SmolLm3 => "smollm3",
            Family::Gemma => "gemma",
            Family::Gemma2 => "gemma2",
            Family::Gemma3 => "gemma3",
            Family::Olmo2 | Family::Olmo3 => "olmo2",
            Family::Phi3 => "phi3",
        };
        let described = Self {
            model,
            family,
            architecture,
        };
        match described.unknown() {
            Some(what) => Err(format!("llama.cpp's {architecture} has no {what}")),
            None => Ok(described),
        }
    }

    /// What llama.cpp's architecture does not have.
    fn unknown(&self) -> Option<String> {
        let (model, features) = (self.model, &self.model.features);
        let is_llama = self.architecture == "llama";
        let has_biases = match self.family {
            Family::Llama => false,
            Family::Qwen2 => features.biases.output || features.biases.feed_forward,
            _ => features.biases.any(),
        };
        let unrotated = |layer: usize| model.layer_kind(layer).unrotated;
        let every_fourth = |layer: usize| layer % 4 == 3;
        let is_other = (0..model.layers).any(|layer| unrotated(layer) != every_fourth(layer));
        let of_large = features.score_divisor.map(|divisor| divisor as usize);
        let is_large = matches!(
            (self.family, model.layers),
            (Family::Gemma2, 46) | (Family::Gemma3, 62)
        );
        let divisor = is_large.then_some(model.width / model.heads);
        let caps = (
            features.score_cap_ppm.is_some(),
            features.logit_cap_ppm.is_some(),
        );
        let checks = [
            (has_biases, "biases like these"),
            (
                is_llama && features.activation != Activation::Silu,
                "feed-forward with GELU",
            ),
            (
                matches!(self.family, Family::Gemma | Family::Gemma2) && !model.tied,
                "output projection of its own",
            ),
            (
                self.family == Family::SmolLm3 && is_other,
                "layers without rotary positions but every fourth",
            ),
            (of_large != divisor, "other divisor of attention scores"),
            (
                self.family == Family::Gemma2 && caps != (true, true),
                "attention without caps",
            ),
            (
                self.family == Family::Gemma3 && caps != (false, false),
                "caps of scores",
            ),
        ];
        let found = checks.into_iter().find(|(is_unknown, _)| *is_unknown);
        found
            .map(|(_, what)| what.to_owned())
            .or_else(|| self.unknown_window())
            .or_else(|| self.unknown_scaling())
    }

    /// llama.cpp knows windows by a period of its own for each architecture.
    fn unknown_window(&self) -> Option<String> {
        let features = &self.model.features;
        let window = features.window? as usize;
        let own = features.window_rope_theta;
        let period = match self.family {
            Family::Gemma2 => 2,
            Family::Gemma3 => 6,
            Family::Olmo3 => 4,
            _ => 0,
        };
        let is_usual = |layer: usize| {
            self.model.layer_kind(layer).windowed == (period > 0 && layer % period != period - 1)
        };
        if window < self.model.context && !(0..self.model.layers).all(is_usual) {
            return Some(format!("layers like these that see only {window} tokens"));
        }
        let theta = self.model.rope_theta;
        let (is_known, theirs) = match self.family {
            Family::Gemma3 => (own.unwrap_or(theta) == 10_000, 10_000),
            _ => (own.is_none_or(|own| own == theta), theta),
        };
        (!is_known).then(|| format!("rotary base of windowed layers but {theirs}"))
    }

    fn unknown_scaling(&self) -> Option<String> {
        let scaling = self.model.rope_scaling.as_ref()?;
        match scaling.kind {
            RopeScalingKind::Linear => None,
            RopeScalingKind::Llama3 if self.architecture == "llama" => None,
            RopeScalingKind::Llama3 => Some("rotary scaling of Llama 3.1".to_owned()),
            RopeScalingKind::Yarn if is_usual_yarn(scaling) => None,
            RopeScalingKind::Yarn => {
                Some("YaRN with other bounds or another attention factor than usual".to_owned())
            }
        }
    }

    /// Writes the keys that describe the model.
    pub(super) fn describe(&self, metadata: &mut Metadata) -> Result<(), String> {
        let (model, architecture) = (self.model, self.architecture);
        let head = model.head_width();
        for (key, size) in [
            ("context_length", model.context),
            ("embedding_length", model.width),
            ("block_count", model.layers),
            ("feed_forward_length", model.feed_forward),
            ("attention.head_count", model.heads),
            ("attention.head_count_kv", model.kv_heads),
            ("attention.key_length", head),
            ("attention.value_length", head),
            ("rope.dimension_count", model.rotary_width()),
            ("vocab_size", model.vocabulary),
        ] {
            let size = u32::try_from(size).map_err(|_| format!("{key} is {size}: too large"))?;
            metadata.u32(&format!("{architecture}.{key}"), size);
        }
        let mut number =
            |key: &str, value: f32| metadata.f32(&format!("{architecture}.{key}"), value);
        number("attention.layer_norm_rms_epsilon", model.norm_epsilon());
        number("rope.freq_base", model.rope_theta as f32);
        let part = |ppm: u32| (f64::from(ppm) / 1e6) as f32;
        if let Some(cap) = model.features.score_cap_ppm {
            number("attn_logit_softcapping", part(cap));
        }
        if let Some(cap) = model.features.logit_cap_ppm {
            number("final_logit_softcapping", part(cap));
        }
        if let Some(scaling) = &model.rope_scaling
            && scaling.kind != RopeScalingKind::Llama3
        {
            number("rope.scaling.factor", part(scaling.factor_ppm));
            let kind = match scaling.kind {
                RopeScalingKind::Yarn => "yarn",
                _ => "linear",
            };
            metadata.string(&format!("{architecture}.rope.scaling.type"), kind);
        }
        let original = match (&model.rope_scaling, self.family) {
            (Some(scaling), _) if scaling.kind == RopeScalingKind::Yarn => scaling.original_context,
            (_, Family::Phi3) => model.context as u32,
            _ => 0,
        };
        for (key, size) in [
            ("rope.scaling.original_context_length", original),
            ("attention.sliding_window", self.written_window()),
        ] {
            if size > 0 {
                metadata.u32(&format!("{architecture}.{key}"), size);
            }
        }
        Ok(())
    }

    /// The window in the file; 0 for none.
    fn written_window(&self) -> u32 {
        match self.family {
            Family::Gemma2 | Family::Gemma3 | Family::Olmo3 => {
                self.model.features.window.unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The tensors, in the layout's order.
    pub(super) fn tensors(&self, layout: &Layout) -> Vec<GgufTensor> {
        // llama.cpp's `llama` and `smollm3` rotate neighbours (2i, 2i + 1); the others rotate
        // halves (i, i + half), as we do.
        let interleaves = matches!(self.architecture, "llama" | "smollm3");
        let tensor = |stored: StoredTensor| {
            let heads = match stored.name.rsplit('.').nth(1) {
                Some("q_proj") => Some(self.model.heads),
                Some("k_proj") => Some(self.model.kv_heads),
                _ => None,
            };
            GgufTensor {
                name: self.name(&stored.name),
                interleaved_heads: heads.filter(|_| interleaves),
                stored,
            }
        };
        stored_tensors(self.family, self.model, layout)
            .into_iter()
            .map(tensor)
            .collect()
    }

    /// llama.cpp's name for a tensor.
    fn name(&self, ours: &str) -> String {
        let Some(inner) = ours.strip_prefix("model.layers.") else {
            return match ours {
                "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
                "model.norm.weight" => "output_norm.weight".to_owned(),
                "lm_head.weight" => "output.weight".to_owned(),
                other => other.to_owned(),
            };
        };
        let (layer, rest) = inner.split_once('.').unwrap_or((inner, ""));
        let (rest, kind) = rest.rsplit_once('.').unwrap_or((rest, "weight"));
        // The same name stands for the norm of what enters the feed-forward, or of what leaves
        // attention.
        let norms_output = self.model.features.norm_placement != Default::default();
        let theirs = match rest {
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.qkv_proj" => "attn_qkv",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            "input_layernorm" => "attn_norm",
            "post_attention_layernorm" if norms_output => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            other => other,
        };
        format!("blk.{layer}.{theirs}.{kind}")
    }

    /// The rows of each head in the order 0, half, 1, half + 1, …, so that neighbours rotate
    /// together.
    pub(super) fn interleaved(&self, matrix: &[f32], heads: usize) -> Vec<f32> {
        let half = self.model.head_width() / 2;
        let columns = matrix.len() / (heads * 2 * half).max(1);
        let row =
            |head: usize, index: usize| &matrix[(head * 2 * half + index) * columns..][..columns];
        let rows = (0..heads).flat_map(|head| {
            (0..half).flat_map(move |index| [(head, index), (head, index + half)])
        });
        rows.flat_map(|(head, index)| row(head, index).iter().copied())
            .collect()
    }

    /// The divisor of each plain frequency that gives the scaled one, if the file needs them.
    pub(super) fn frequency_factors(&self) -> Option<Vec<f32>> {
        let scaling = self.model.rope_scaling.as_ref();
        scaling.filter(|scaling| scaling.kind == RopeScalingKind::Llama3)?;
        let plain = Angles::unscaled(self.model, self.model.rope_theta).frequencies;
        let factors = plain
            .iter()
            .zip(Angles::of(self.model).frequencies)
            .map(|(plain, scaled)| (plain / scaled) as f32);
        Some(factors.collect())
    }
}

/// Whether llama.cpp computes this YaRN without further keys.
fn is_usual_yarn(scaling: &RopeScaling) -> bool {
    let factor = f64::from(scaling.factor_ppm) / 1e6;
    let usual = 0.1 * factor.ln() + 1.0;
    let attention = f64::from(scaling.attention_factor_ppb) / 1e9;
    scaling.whole_components
        && (scaling.low_frequency_ppm, scaling.high_frequency_ppm) == (1_000_000, 32_000_000)
        && (attention / usual - 1.0).abs() < 1e-6
}
