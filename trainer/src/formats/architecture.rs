//! The architectures of Hugging Face that are read and written, and what their configuration
//! classes take for keys that a `config.json` leaves out.

/// An architecture of transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    SmolLm3,
    Gemma,
    Gemma2,
    Gemma3,
    Olmo2,
    Olmo3,
    Phi3,
}

/// What a class of transformers takes for keys that are missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub norm_epsilon: f64,
    pub rope_theta: f64,
    pub tied: bool,
    pub context: usize,
    /// As many as there are query heads, if there is no number.
    pub kv_heads: Option<usize>,
    /// The width by the number of heads, if there is no number.
    pub head_width: Option<usize>,
    pub window: Option<usize>,
}

/// Llama's.
const LLAMA: Defaults = Defaults {
    norm_epsilon: 1e-6,
    rope_theta: 10_000.0,
    tied: false,
    context: 2048,
    kv_heads: None,
    head_width: None,
    window: None,
};

impl Family {
    /// Every architecture, in the order in which an export tries them: the first that has all
    /// features of a model writes it.
    pub(super) const ALL: [Self; 11] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::SmolLm3,
        Self::Gemma,
        Self::Gemma2,
        Self::Gemma3,
        Self::Olmo2,
        Self::Olmo3,
        Self::Phi3,
    ];

    /// The architecture of a `model_type`.
    pub(super) fn of(model_type: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|family| family.model_type() == model_type)
    }

    /// `model_type` in `config.json`.
    pub(super) fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::SmolLm3 => "smollm3",
            Self::Gemma => "gemma",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3_text",
            Self::Olmo2 => "olmo2",
            Self::Olmo3 => "olmo3",
            Self::Phi3 => "phi3",
        }
    }

    /// The class in transformers.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::SmolLm3 => "SmolLM3ForCausalLM",
            Self::Gemma => "GemmaForCausalLM",
            Self::Gemma2 => "Gemma2ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
            Self::Olmo2 => "Olmo2ForCausalLM",
            Self::Olmo3 => "Olmo3ForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
        }
    }

    /// Whether it is one of Google's Gemmas, which store gains less one.
    pub(super) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma | Self::Gemma2 | Self::Gemma3)
    }

    pub(super) fn defaults(self) -> Defaults {
        match self {
            Self::Llama => LLAMA,
            Self::Mistral => Defaults {
                context: 131_072,
                kv_heads: Some(8),
                window: Some(4096),
                ..LLAMA
            },
            Self::Qwen2 | Self::Qwen3 => Defaults {
                context: 32_768,
                kv_heads: Some(32),
                head_width: (self == Self::Qwen3).then_some(128),
                window: Some(4096),
                ..LLAMA
            },
            Self::SmolLm3 => Defaults {
                rope_theta: 2_000_000.0,
                tied: true,
                context: 32_768,
                kv_heads: Some(4),
                ..LLAMA
            },
            Self::Gemma | Self::Gemma2 => Defaults {
                tied: true,
                context: 8192,
                kv_heads: Some(if self == Self::Gemma { 16 } else { 4 }),
                head_width: Some(256),
                window: (self == Self::Gemma2).then_some(4096),
                ..LLAMA
            },
            Self::Gemma3 => Defaults {
                rope_theta: 1_000_000.0,
                tied: true,
                context: 131_072,
                kv_heads: Some(4),
                head_width: Some(256),
                window: Some(4096),
                ..LLAMA
            },
            Self::Olmo2 => Defaults {
                norm_epsilon: 1e-5,
                ..LLAMA
            },
            Self::Olmo3 => Defaults {
                norm_epsilon: 1e-5,
                rope_theta: 500_000.0,
                window: Some(4096),
                ..LLAMA
            },
            Self::Phi3 => Defaults {
                norm_epsilon: 1e-5,
                context: 4096,
                ..LLAMA
            },
        }
    }
}
