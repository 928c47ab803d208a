//! The model's sizes.

use super::{NAME, NUMBERS_BYTES};
use crate::schema::{message, numbered};

/// Limit on the bytes of a model: its numbers, and one byte for each layer.
const MODEL_BYTES: usize = 2 * NUMBERS_BYTES + MOST_LAYERS as usize;
/// Limit on a model's layers.
pub(super) const MOST_LAYERS: u32 = 1 << 10;

numbered! {
    /// How queries and keys are normalised before the rotary encoding.
    pub enum QueryKeyNorm: i32 {
        /// Not at all.
        None = 0,
        /// Each head by itself, with one gain for all heads (Qwen3).
        Head = 1,
        /// All heads together (OLMo 2).
        Whole = 2,
    }
}

numbered! {
    /// Where a block normalises.
    pub enum NormPlacement: i32 {
        /// What enters attention and feed-forward (Llama).
        Before = 0,
        /// What leaves them, before it is added to the residual stream (OLMo 2).
        After = 1,
        /// Both (Gemma 2).
        Both = 2,
    }
}

numbered! {
    /// What the gates of the feed-forward go through.
    pub enum Activation: i32 {
        /// SiLU.
        Silu = 0,
        /// GELU in its approximation by tanh (Gemma).
        GeluTanh = 1,
    }
}

numbered! {
    /// The rule that scales rotary frequencies.
    pub enum RopeScalingKind: i32 {
        /// Llama 3.1: between low and high, interpolated by turns.
        Llama3 = 0,
        /// All frequencies alike.
        Linear = 1,
        /// YaRN: between low and high, interpolated by components.
        Yarn = 2,
    }
}

message! {
    /// Sizes and features of a decoder. A feature of zero is what Llama has.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Model(NAME, MODEL_BYTES) {
        /// Number of token ids.
        pub vocabulary: u32 = 1,
        /// Width of the residual stream.
        pub width: u32 = 2,
        /// Number of blocks, each of attention and feed-forward.
        pub layers: u32 = 3,
        /// Query heads. They share the width evenly unless `head_width` is set.
        pub heads: u32 = 4,
        /// Key and value heads. Must divide the query heads.
        pub kv_heads: u32 = 5,
        /// Inner width of the feed-forward.
        pub feed_forward: u32 = 6,
        /// Tokens in a sequence.
        pub context: u32 = 7,
        /// Whether the output layer uses the embedding's matrix.
        pub tied_embeddings: bool = 8,
        /// Base of the rotary position encoding.
        pub rope_theta: u32 = 9,
        /// Epsilon of the RMS norm, in ppb.
        pub norm_epsilon_ppb: u32 = 10,
        /// Width of a head; 0 means width / heads.
        pub head_width: u32 = 11,
        /// How queries and keys are normalised before the rotary encoding.
        pub query_key_norm: QueryKeyNorm = 12,
        /// Scaling of the rotary frequencies, if any.
        pub rope_scaling: Option<RopeScaling> = 13,
        /// Whether the projections to queries, keys and values have biases.
        pub query_key_value_bias: bool = 14,
        /// Whether the projection of what attention gathered has a bias.
        pub output_bias: bool = 15,
        /// Whether the projections of the feed-forward have biases.
        pub feed_forward_bias: bool = 16,
        /// Where a block normalises.
        pub norm_placement: NormPlacement = 17,
        /// What the gates of the feed-forward go through.
        pub activation: Activation = 18,
        /// Whether embeddings are multiplied by the root of the width.
        pub scaled_embedding: bool = 19,
        /// Attention scores are divided by the root of this; 0 means the width of a head.
        pub score_divisor: u32 = 20,
        /// Attention scores s become c tanh(s / c); 0 for none.
        pub score_cap_ppm: u32 = 21,
        /// The same for the scores of the next token.
        pub logit_cap_ppm: u32 = 22,
        /// Tokens that a windowed layer sees, its own included; 0 if no layer is windowed.
        pub window: u32 = 23,
        /// One byte for each layer, a sum of [`Self::WINDOWED`] and [`Self::UNROTATED`]. Empty if
        /// all are 0.
        pub layer_kinds: Vec<u8> = 24,
        /// Base of the rotary encoding of windowed layers, whose frequencies are not scaled; 0 if
        /// windowed layers rotate like the others.
        pub window_rope_theta: u32 = 25,
        /// Leading components of a head that rotate; 0 means all.
        pub rotary_width: u32 = 26,
        /// Whether other programs keep queries, keys and values in one matrix, and gates and ups in
        /// another (Phi-3). Training is the same.
        pub fused_projections: bool = 27,
    }
}

message! {
    /// Scaling of the rotary frequencies. Numbers that a kind does not use are 0.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RopeScaling(NAME, NUMBERS_BYTES) {
        /// Divisor of the frequencies, or of the low ones.
        pub factor_ppm: u32 = 1,
        /// A frequency is low if it turns fewer times than this within `original_context`.
        pub low_frequency_ppm: u32 = 2,
        /// A frequency is unchanged if it turns more times than this within `original_context`.
        pub high_frequency_ppm: u32 = 3,
        /// Context of the original training, in tokens.
        pub original_context: u32 = 4,
        /// The rule.
        pub kind: RopeScalingKind = 5,
        /// Factor of queries and keys (YaRN).
        pub attention_factor_ppb: u32 = 6,
        /// Whether low and high begin at whole components (YaRN).
        pub whole_components: bool = 7,
    }
}

impl Model {
    /// In `layer_kinds`: the layer sees only the last `window` tokens.
    pub const WINDOWED: u8 = 1;
    /// In `layer_kinds`: the layer has no rotary encoding.
    pub const UNROTATED: u8 = 2;

    /// Number of trainable parameters.
    pub fn parameters(&self) -> u64 {
        let [vocabulary, width, layers] = [self.vocabulary, self.width, self.layers].map(u64::from);
        let embeddings = vocabulary
            .saturating_mul(width)
            .saturating_mul(if self.tied_embeddings { 1 } else { 2 });
        layers
            .saturating_mul(self.block_parameters())
            .saturating_add(embeddings)
            .saturating_add(width)
    }

    fn block_parameters(&self) -> u64 {
        let [width, inner, heads, kv_heads] =
            [self.width, self.feed_forward, self.heads, self.kv_heads].map(u64::from);
        let head = match u64::from(self.head_width) {
            0 => width / heads.max(1),
            width => width,
        };
        let (query, kv) = (heads.saturating_mul(head), kv_heads.saturating_mul(head));
        let both = query.saturating_add(kv);
        let if_set = |is_set: bool, count: u64| if is_set { count } else { 0 };
        let parts = [
            width.saturating_mul(both).saturating_mul(2),
            width.saturating_mul(inner).saturating_mul(3),
            width.saturating_mul(match self.norm_placement {
                NormPlacement::Before | NormPlacement::After => 2,
                NormPlacement::Both => 4,
            }),
            match self.query_key_norm {
                QueryKeyNorm::None => 0,
                QueryKeyNorm::Head => head.saturating_mul(2),
                QueryKeyNorm::Whole => both,
            },
            if_set(self.query_key_value_bias, both.saturating_add(kv)),
            if_set(self.output_bias, width),
            if_set(
                self.feed_forward_bias,
                inner.saturating_mul(2).saturating_add(width),
            ),
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}
