//! [`Features`]: what a decoder does otherwise than Llama. Each is a feature of the mathematics,
//! not the name of a model.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One million: a ppm field with this value is 1.
const PPM: u32 = 1_000_000;

/// What a decoder does otherwise than Llama. The default is Llama.
///
/// | model | features |
/// |---|---|
/// | Qwen 2 and 2.5 | biases of queries, keys and values |
/// | SmolLM3 | layers without rotary positions |
/// | Mistral | windowed layers |
/// | Gemma 2 | norms before and after, GELU, scaled embedding, caps, windowed layers |
/// | Gemma 3 | the same without caps; windowed layers have a rotary base of their own |
/// | OLMo 2 | norms after |
/// | Phi-3 | fused projections, windowed layers, a rotary width |
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Features {
    /// Which projections have biases.
    pub biases: Biases,
    /// Where a block normalises.
    pub norm_placement: NormPlacement,
    /// What the gates of the feed-forward go through.
    pub activation: Activation,
    /// Whether embeddings are multiplied by the root of the width.
    pub scaled_embedding: bool,
    /// Attention scores are divided by the root of this, if not by that of the head's width.
    pub score_divisor: Option<u32>,
    /// Attention scores s become c tanh(s / c) for this c, in ppm.
    pub score_cap_ppm: Option<u32>,
    /// The same for the scores of the next token.
    pub logit_cap_ppm: Option<u32>,
    /// Tokens that a windowed layer sees, its own included.
    pub window: Option<u32>,
    /// The kind of each layer; empty if all are plain.
    pub layer_kinds: Vec<LayerKind>,
    /// Base of the rotary frequencies of windowed layers, which are not scaled then. Without it,
    /// windowed layers rotate like the others.
    pub window_rope_theta: Option<u32>,
    /// Leading components of a head that rotate, if not all.
    pub rotary_width: Option<usize>,
    /// Whether other programs keep queries, keys and values in one matrix, and gates and ups in
    /// another. Training is the same.
    pub fused_projections: bool,
}

/// Which projections have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Biases {
    /// Those to queries, keys and values.
    pub query_key_value: bool,
    /// That of what attention gathered.
    pub output: bool,
    /// Those of the feed-forward.
    pub feed_forward: bool,
}

impl Biases {
    /// Whether there is any bias.
    pub fn any(self) -> bool {
        self.query_key_value || self.output || self.feed_forward
    }
}

/// How queries and keys are normalised before rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QueryKeyNorm {
    /// Not at all.
    #[default]
    None,
    /// Each head by itself, with one gain for all heads (Qwen3, Gemma 3).
    Head,
    /// All heads together (OLMo 2).
    Whole,
}

/// Where a block normalises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NormPlacement {
    /// What enters attention and feed-forward.
    #[default]
    Before,
    /// What leaves them, before it is added to the residual stream.
    After,
    /// Both.
    Both,
}

/// What the gates of the feed-forward go through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activation {
    /// x σ(x).
    #[default]
    Silu,
    /// GELU in its approximation by tanh.
    GeluTanh,
}

/// How one layer differs from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerKind {
    /// It sees only the last [`Features::window`] tokens.
    pub windowed: bool,
    /// It has no rotary positions.
    pub unrotated: bool,
}

/// The rule that scales rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RopeScalingKind {
    /// Llama 3.1: low frequencies are divided, high ones stay, and those between are interpolated
    /// by the turns they make.
    Llama3,
    /// All frequencies are divided alike.
    Linear,
    /// YaRN (Peng et al., 2023, <https://arxiv.org/abs/2309.00071>): the same as Llama 3.1's,
    /// interpolated by components.
    Yarn,
}

/// Scaling of the rotary frequencies, for windows longer than the original context, as Hugging
/// Face's `modeling_rope_utils.py` computes it. Numbers that a kind does not use are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// The rule.
    pub kind: RopeScalingKind,
    /// Divisor of the frequencies, or of the low ones, in ppm (8,000,000 is 8).
    pub factor_ppm: u32,
    /// A frequency is low if it turns fewer times than this within `original_context`; in ppm.
    pub low_frequency_ppm: u32,
    /// A frequency is high if it turns more times than this within `original_context`; in ppm.
    pub high_frequency_ppm: u32,
    /// The context of the original training, in tokens.
    pub original_context: u32,
    /// Factor of queries and keys, in ppb (YaRN).
    pub attention_factor_ppb: u32,
    /// Whether low and high begin at whole components (YaRN).
    pub whole_components: bool,
}

impl RopeScaling {
    /// All frequencies divided by a factor.
    pub fn linear(factor_ppm: u32) -> Self {
        Self {
            kind: RopeScalingKind::Linear,
            factor_ppm,
            low_frequency_ppm: 0,
            high_frequency_ppm: 0,
            original_context: 0,
            attention_factor_ppb: 0,
            whole_components: false,
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let within = |key, value: u32, least: u32| {
            if value < least {
                refuse(key, value, format!("it must be at least {least}"))
            } else {
                Ok(())
            }
        };
        within("rope_scaling.factor_ppm", self.factor_ppm, PPM)?;
        if self.kind == RopeScalingKind::Linear {
            return Ok(());
        }
        let (low, high) = (self.low_frequency_ppm, self.high_frequency_ppm);
        within("rope_scaling.low_frequency_ppm", low, 1)?;
        if high <= low {
            let rule = "it must be more than low_frequency_ppm";
            return refuse("rope_scaling.high_frequency_ppm", high, rule);
        }
        within("rope_scaling.original_context", self.original_context, 1)?;
        if self.kind == RopeScalingKind::Yarn {
            let factor = self.attention_factor_ppb;
            within("rope_scaling.attention_factor_ppb", factor, 1)?;
        }
        Ok(())
    }
}

impl Features {
    /// Checks that the features fit a model of `layers` layers whose heads have that width.
    pub(crate) fn validate(&self, layers: usize, head_width: usize) -> Result<()> {
        let positive = [
            ("score_divisor", self.score_divisor),
            ("score_cap_ppm", self.score_cap_ppm),
            ("logit_cap_ppm", self.logit_cap_ppm),
            ("window", self.window),
            ("window_rope_theta", self.window_rope_theta),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == Some(0)) {
            return refuse(key, 0, "it must be at least 1");
        }
        if !self.layer_kinds.is_empty() && self.layer_kinds.len() != layers {
            let rule = format!("there must be one for each of the {layers} layers");
            return refuse("layer_kinds", self.layer_kinds.len(), rule);
        }
        if self.is_windowed() != self.window.is_some() {
            let rule = "there must be a window if a layer is windowed, and only then";
            return refuse("window", self.window.unwrap_or(0), rule);
        }
        if self.window_rope_theta.is_some() && self.window.is_none() {
            let rule = "no layer is windowed";
            return refuse(
                "window_rope_theta",
                self.window_rope_theta.unwrap_or(0),
                rule,
            );
        }
        if let Some(width) = self.rotary_width
            && (width == 0 || width % 2 != 0 || width > head_width)
        {
            let rule = format!("it must be an even number of at most {head_width}");
            return refuse("rotary_width", width, rule);
        }
        if self.fused_projections && self.biases.any() {
            let rule = "projections with biases are not fused";
            return refuse("fused_projections", true, rule);
        }
        Ok(())
    }

    /// Whether any layer sees only a window.
    pub(crate) fn is_windowed(&self) -> bool {
        self.layer_kinds.iter().any(|kind| kind.windowed)
    }
}

fn refuse<T>(key: &'static str, value: impl ToString, rule: impl Into<String>) -> Result<T> {
    Err(Error::Model {
        key,
        value: value.to_string(),
        rule: rule.into(),
    })
}
