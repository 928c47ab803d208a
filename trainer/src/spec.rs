//! [`ModelSpec`]: a model's sizes, and the order and names of its tensors.

use serde::{Deserialize, Serialize};
use weal_kernels::{Layout, TensorSpec};

use crate::error::{Error, Result};

/// The sizes of a Llama-architecture decoder.
///
/// All fields are integers, so that a manifest encodes them canonically. The architecture is
/// Hugging Face's `LlamaForCausalLM`: RMSNorm before each block, rotary positions in the half-split
/// convention, grouped-query attention, SwiGLU, and no biases. With `query_key_norm` it is
/// `Qwen3ForCausalLM`.
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
    /// Whether queries and keys are normalised per head before rotation (Qwen3).
    #[serde(default)]
    pub query_key_norm: bool,
    /// Scaling of the rotary frequencies, for windows longer than the original context (Llama 3.1).
    #[serde(default)]
    pub rope_scaling: Option<RopeScaling>,
}

/// Llama 3.1's scaling of rotary frequencies: low ones are divided by `factor`, high ones stay, and
/// those between are interpolated (`_compute_llama3_parameters` in Hugging Face's
/// `modeling_rope_utils.py`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// Divisor of low frequencies, in ppm (8,000,000 is 8).
    pub factor_ppm: u32,
    /// Wavelengths above `original_context` over this count as low frequencies; in ppm.
    pub low_frequency_ppm: u32,
    /// Wavelengths below `original_context` over this count as high frequencies; in ppm.
    pub high_frequency_ppm: u32,
    /// The context of the original training, in tokens.
    pub original_context: u32,
}

/// The most parameters of a model: a `u32` byte offset into an index plane still addresses them,
/// with a margin.
const MAX_PARAMETERS: u128 = 1 << 38;

/// The most blocks of a model. Bounds the number of tensors before any is allocated.
const MAX_LAYERS: usize = 1024;

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
            query_key_norm: false,
            rope_scaling: None,
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
        within("context", self.context, 1 << 17)?;
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
        if let Some(scaling) = &self.rope_scaling {
            scaling.validate()?;
        }
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

    /// Every tensor as `(name, [rows, columns])`; a norm's gain has one row.
    fn shapes(&self) -> Vec<(String, [usize; 2])> {
        let (width, query, kv) = (self.width, self.query_width(), self.kv_width());
        let mut shapes = vec![(
            "model.embed_tokens.weight".to_owned(),
            [self.vocabulary, width],
        )];
        for layer in 0..self.layers {
            let block = [
                ("self_attn.q_proj", [query, width]),
                ("self_attn.k_proj", [kv, width]),
                ("self_attn.v_proj", [kv, width]),
                ("self_attn.o_proj", [width, query]),
                ("mlp.gate_proj", [self.feed_forward, width]),
                ("mlp.up_proj", [self.feed_forward, width]),
                ("mlp.down_proj", [width, self.feed_forward]),
                ("input_layernorm", [1, width]),
                ("post_attention_layernorm", [1, width]),
            ];
            let norms =
                ["self_attn.q_norm", "self_attn.k_norm"].map(|name| (name, [1, self.head_width()]));
            let norms = norms.into_iter().filter(|_| self.query_key_norm);
            let named = |(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape);
            shapes.extend(block.into_iter().chain(norms).map(named));
        }
        shapes.push(("model.norm.weight".to_owned(), [1, width]));
        if !self.tied {
            shapes.push(("lm_head.weight".to_owned(), [self.vocabulary, width]));
        }
        shapes
    }
}

impl RopeScaling {
    fn validate(&self) -> Result<()> {
        let refuse = |key, value: u32, rule: &str| {
            Err(Error::Model {
                key,
                value: value.to_string(),
                rule: rule.to_owned(),
            })
        };
        if self.factor_ppm < 1_000_000 {
            return refuse(
                "rope_scaling.factor_ppm",
                self.factor_ppm,
                "it must be at least 1000000",
            );
        }
        if self.low_frequency_ppm == 0 {
            return refuse("rope_scaling.low_frequency_ppm", 0, "it must be at least 1");
        }
        if self.high_frequency_ppm <= self.low_frequency_ppm {
            let rule = "it must be more than low_frequency_ppm";
            return refuse(
                "rope_scaling.high_frequency_ppm",
                self.high_frequency_ppm,
                rule,
            );
        }
        if self.original_context == 0 {
            return refuse("rope_scaling.original_context", 0, "it must be at least 1");
        }
        Ok(())
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
