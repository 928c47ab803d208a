//! [`ModelSpec`]: a model's sizes, and the order and names of its tensors.

use serde::{Deserialize, Serialize};
use weal_kernels::{Layout, TensorSpec};

use crate::error::{Error, Result};
use crate::features::{Features, LayerKind, NormPlacement, QueryKeyNorm, RopeScaling};

/// The sizes and features of a decoder.
///
/// All fields are integers, so that a manifest encodes them canonically. Without features the
/// architecture is Hugging Face's `LlamaForCausalLM`: RMSNorm before each block, rotary positions
/// in the half-split convention, grouped-query attention, SwiGLU, and no biases. The gain of a norm
/// is what multiplies; formats that store it less one (Gemma) are converted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Rows of the embedding. The tokeniser may have fewer tokens, never more.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads. Must divide `width` unless `head_width` is given.
    pub heads: usize,
    /// Key and value heads. Must divide `heads`; equal to `heads` for plain multi-head attention.
    pub kv_heads: usize,
    /// Width of the feed-forward block.
    pub feed_forward: usize,
    /// Longest window the model is trained on, in tokens.
    pub context: usize,
    /// Whether the output projection is the embedding itself.
    pub tied: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: u32,
    /// RMSNorm's ε, in parts per billion (10 000 is 1e-5).
    pub norm_epsilon_ppb: u32,
    /// Width of one head, if it is not `width / heads`.
    #[serde(default)]
    pub head_width: Option<usize>,
    /// How queries and keys are normalised before rotation.
    #[serde(default)]
    pub query_key_norm: QueryKeyNorm,
    /// Scaling of the rotary frequencies, for windows longer than the original context.
    #[serde(default)]
    pub rope_scaling: Option<RopeScaling>,
    /// What the decoder does otherwise than Llama.
    #[serde(default)]
    pub features: Features,
}

/// The most parameters of a model: a `u32` byte offset into an index plane still addresses them,
/// with a margin.
const MAX_PARAMETERS: u128 = 1 << 38;

/// The most blocks of a model. Bounds the number of tensors before any is allocated.
pub(crate) const MAX_LAYERS: usize = 1024;

/// The longest context, in tokens.
const MOST_CONTEXT: usize = 1 << 18;

/// The names of the presets, smallest first.
pub const PRESETS: [&str; 6] = ["nano", "micro", "tiny", "small", "medium", "1b"];

impl ModelSpec {
    /// The preset `name`: one of [`PRESETS`].
    ///
    /// `nano` to `small` have a byte vocabulary, `medium` and `1b` one of 32 000 tokens;
    /// [`Self::with_vocabulary`] changes it.
    ///
    /// | preset | parameters | layers | width | context |
    /// |---|---|---|---|---|
    /// | `nano` | 0.84 M | 4 | 128 | 128 |
    /// | `micro` | 4.5 M | 6 | 256 | 256 |
    /// | `tiny` | 12.7 M | 8 | 384 | 512 |
    /// | `small` | 75.7 M | 12 | 768 | 1024 |
    /// | `medium` | 303 M | 24 | 1024 | 2048 |
    /// | `1b` | 1.1 G | 22 | 2048 | 2048 |
    pub fn preset(name: &str) -> Result<Self> {
        // name, vocabulary, width, layers, heads, kv heads, feed-forward, context, tied
        let sizes = match name {
            "nano" => (256, 128, 4, 4, 4, 352, 128, true),
            "micro" => (256, 256, 6, 8, 4, 704, 256, true),
            "tiny" => (256, 384, 8, 6, 2, 1024, 512, true),
            "small" => (256, 768, 12, 12, 4, 2048, 1024, true),
            "medium" => (32_000, 1024, 24, 16, 4, 2816, 2048, true),
            "1b" => (32_000, 2048, 22, 32, 4, 5632, 2048, false),
            _ => {
                return Err(Error::UnknownPreset {
                    name: name.to_owned(),
                    known: PRESETS.join(", "),
                });
            }
        };
        let (vocabulary, width, layers, heads, kv_heads, feed_forward, context, tied) = sizes;
        Ok(Self {
            vocabulary,
            width,
            layers,
            heads,
            kv_heads,
            feed_forward,
            context,
            tied,
            rope_theta: 10_000,
            norm_epsilon_ppb: 10_000,
            head_width: None,
            query_key_norm: QueryKeyNorm::None,
            rope_scaling: None,
            features: Features::default(),
        })
    }

    /// The same model with another vocabulary.
    pub fn with_vocabulary(mut self, vocabulary: usize) -> Self {
        self.vocabulary = vocabulary;
        self
    }

    /// Width of one head.
    pub fn head_width(&self) -> usize {
        self.head_width.unwrap_or(self.width / self.heads)
    }

    /// Width of the queries of all heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_width()
    }

    /// Width of the keys (and of the values) of all heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width()
    }

    /// Leading components of a head that rotate.
    pub fn rotary_width(&self) -> usize {
        self.features.rotary_width.unwrap_or(self.head_width())
    }

    /// How a layer differs from the others.
    pub fn layer_kind(&self, layer: usize) -> LayerKind {
        let kinds = &self.features.layer_kinds;
        kinds.get(layer).copied().unwrap_or_default()
    }

    /// Tokens that a layer sees, its own included, if they are fewer than all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let window = self.features.window.map(|window| window as usize);
        window.filter(|_| self.layer_kind(layer).windowed)
    }

    /// Factor of attention scores.
    pub fn score_scale(&self) -> f64 {
        let divisor = self.features.score_divisor;
        1.0 / divisor.map_or(self.head_width() as f64, f64::from).sqrt()
    }

    /// RMSNorm's ε.
    pub fn norm_epsilon(&self) -> f32 {
        (f64::from(self.norm_epsilon_ppb) / 1e9) as f32
    }

    /// Checks that the sizes fit together and are in range. Call it on every spec from outside
    /// before allocating anything.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key, value: usize, rule: &str| {
            Err(Error::Model {
                key,
                value: value.to_string(),
                rule: rule.to_owned(),
            })
        };
        let within = |key, value: usize, most: usize| {
            if value == 0 || value > most {
                refuse(key, value, &format!("it must be 1 to {most}"))
            } else {
                Ok(())
            }
        };
        within("vocabulary", self.vocabulary, 1 << 20)?;
        within("width", self.width, 1 << 16)?;
        within("layers", self.layers, MAX_LAYERS)?;
        within("heads", self.heads, 1 << 12)?;
        within("kv_heads", self.kv_heads, self.heads)?;
        within("feed_forward", self.feed_forward, 1 << 18)?;
        within("context", self.context, MOST_CONTEXT)?;
        if self.context < 2 {
            return refuse("context", self.context, "it must be at least 2 tokens");
        }
        match self.head_width {
            None if !self.width.is_multiple_of(self.heads) => {
                return refuse(
                    "heads",
                    self.heads,
                    &format!("it must divide model.width = {}", self.width),
                );
            }
            None if !self.head_width().is_multiple_of(2) => {
                return refuse(
                    "heads",
                    self.heads,
                    "model.width / model.heads must be even for rotary positions",
                );
            }
            Some(width) => {
                within("head_width", width, 1 << 12)?;
                if !width.is_multiple_of(2) {
                    return refuse("head_width", width, "it must be even for rotary positions");
                }
            }
            None => {}
        }
        self.rope_scaling
            .iter()
            .try_for_each(RopeScaling::validate)?;
        self.features.validate(self.layers, self.head_width())?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return refuse(
                "kv_heads",
                self.kv_heads,
                &format!("it must divide model.heads = {}", self.heads),
            );
        }
        within("rope_theta", self.rope_theta as usize, u32::MAX as usize)?;
        within(
            "norm_epsilon_ppb",
            self.norm_epsilon_ppb as usize,
            1_000_000_000,
        )?;
        let parameters: u128 = self
            .shapes()
            .iter()
            .map(|(_, [rows, columns])| *rows as u128 * *columns as u128)
            .sum();
        if parameters > MAX_PARAMETERS {
            return Err(Error::Model {
                key: "width",
                value: self.width.to_string(),
                rule: format!(
                    "the model would have {parameters} parameters, but at most {MAX_PARAMETERS} are allowed"
                ),
            });
        }
        Ok(())
    }

    /// The model's tensors in the order of the flat parameter vector, with their Hugging Face
    /// names. Matrices are `[out, in]`, row major.
    pub fn layout(&self) -> Result<Layout> {
        self.validate()?;
        let tensors = self
            .shapes()
            .into_iter()
            .map(|(name, [rows, columns])| TensorSpec {
                name,
                shape: if rows == 1 {
                    vec![columns]
                } else {
                    vec![rows, columns]
                },
            })
            .collect();
        Ok(Layout::new(tensors)?)
    }

    /// Every tensor as `(name, [rows, columns])`; a gain or a bias has one row.
    fn shapes(&self) -> Vec<(String, [usize; 2])> {
        let width = self.width;
        let mut shapes = vec![(
            "model.embed_tokens.weight".to_owned(),
            [self.vocabulary, width],
        )];
        let block = self.block_shapes();
        for layer in 0..self.layers {
            let named =
                |(name, shape): &(String, _)| (format!("model.layers.{layer}.{name}"), *shape);
            shapes.extend(block.iter().map(named));
        }
        shapes.push(("model.norm.weight".to_owned(), [1, width]));
        if !self.tied {
            shapes.push(("lm_head.weight".to_owned(), [self.vocabulary, width]));
        }
        shapes
    }

    /// The tensors of one block: matrices, norms, norms of queries and keys, biases. The order is
    /// that of [`TensorIndex`](crate::tensor_index::TensorIndex).
    fn block_shapes(&self) -> Vec<(String, [usize; 2])> {
        let (width, inner) = (self.width, self.feed_forward);
        let (query, kv) = (self.query_width(), self.kv_width());
        let projections = [
            ("self_attn.q_proj", [query, width]),
            ("self_attn.k_proj", [kv, width]),
            ("self_attn.v_proj", [kv, width]),
            ("self_attn.o_proj", [width, query]),
            ("mlp.gate_proj", [inner, width]),
            ("mlp.up_proj", [inner, width]),
            ("mlp.down_proj", [width, inner]),
        ];
        let norms: &[&str] = match self.features.norm_placement {
            NormPlacement::Before => &["input_layernorm", "post_attention_layernorm"],
            NormPlacement::After => &["post_attention_layernorm", "post_feedforward_layernorm"],
            NormPlacement::Both => &[
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ],
        };
        let head_norms = match self.query_key_norm {
            QueryKeyNorm::None => None,
            QueryKeyNorm::Head => Some([self.head_width(); 2]),
            QueryKeyNorm::Whole => Some([query, kv]),
        };
        let head_norms = head_norms.into_iter().flat_map(|[query, key]| {
            [
                ("self_attn.q_norm", [1, query]),
                ("self_attn.k_norm", [1, key]),
            ]
        });
        let weights = projections
            .into_iter()
            .chain(norms.iter().map(|name| (*name, [1, width])))
            .chain(head_norms)
            .map(|(name, shape)| (format!("{name}.weight"), shape));
        let biases = self.features.biases;
        let has_bias = |name: &str| match name {
            "self_attn.o_proj" => biases.output,
            name if name.starts_with("mlp.") => biases.feed_forward,
            _ => biases.query_key_value,
        };
        let biases = projections
            .into_iter()
            .filter(|(name, _)| has_bias(name))
            .map(|(name, [rows, _])| (format!("{name}.bias"), [1, rows]));
        weights.chain(biases).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_has_its_documented_size() {
        let parameters = PRESETS.map(|name| {
            ModelSpec::preset(name)
                .unwrap()
                .layout()
                .unwrap()
                .parameters()
        });
        assert_eq!(
            parameters,
            [
                836_736,
                4_492_544,
                12_687_744,
                75_713_280,
                303_350_784,
                1_100_048_384
            ]
        );
    }

    #[test]
    fn an_unknown_preset_is_refused_with_the_known_names() {
        let message = ModelSpec::preset("huge").unwrap_err().to_string();
        assert!(
            message.contains("huge") && message.contains("nano, micro"),
            "{message}"
        );
    }

    #[test]
    fn inconsistent_sizes_are_refused_by_name() {
        let nano = ModelSpec::preset("nano").unwrap();
        let cases = [
            (
                "heads",
                ModelSpec {
                    heads: 3,
                    kv_heads: 3,
                    ..nano.clone()
                },
            ),
            (
                "kv_heads",
                ModelSpec {
                    kv_heads: 3,
                    ..nano.clone()
                },
            ),
            (
                "heads",
                ModelSpec {
                    heads: 128,
                    kv_heads: 128,
                    ..nano.clone()
                },
            ),
            (
                "head_width",
                ModelSpec {
                    head_width: Some(31),
                    ..nano.clone()
                },
            ),
            (
                "layers",
                ModelSpec {
                    layers: 0,
                    ..nano.clone()
                },
            ),
            (
                "layers",
                ModelSpec {
                    layers: usize::MAX,
                    ..nano.clone()
                },
            ),
            (
                "context",
                ModelSpec {
                    context: 1,
                    ..nano.clone()
                },
            ),
            (
                "vocabulary",
                ModelSpec {
                    vocabulary: usize::MAX,
                    ..nano.clone()
                },
            ),
            (
                "width",
                ModelSpec {
                    width: 1 << 16,
                    heads: 4,
                    layers: 1024,
                    feed_forward: 1 << 18,
                    ..nano
                },
            ),
        ];
        for (key, spec) in cases {
            let message = spec.validate().unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("model.{key} = ")),
                "{key}: {message}"
            );
        }
    }
}
