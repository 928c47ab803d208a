//! Writes GGUF files for llama.cpp
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, version 3).

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use rayon::prelude::*;
use weal_files::Access;
use weal_kernels::{Layout, TensorSpec};

use super::blocks::{BLOCK, Q4_0_BYTES, Q8_0_BYTES, q4_0, q8_0};
use super::export::Export;
use super::floats::FloatFormat;
use super::metadata::{Metadata, put_string, value_type};
use super::progress::FileProgress;
use super::vocabulary::vocabulary;
use crate::engine::frequencies;
use crate::error::{Error, Result};
use crate::spec::ModelSpec;

/// Tensors begin at multiples of this many bytes.
const ALIGNMENT: u64 = 32;
/// Version of the format.
const VERSION: u32 = 3;

/// The format of matrices in a GGUF file. Norms are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufFormat {
    /// 16 bits per weight.
    F16,
    /// 8.5 bits per weight.
    Q8_0,
    /// 4.5 bits per weight. The embedding and the output projection, which suffer most from
    /// quantisation, have 8.5.
    Q4_0,
}

impl GgufFormat {
    /// `general.file_type`, llama.cpp's `LLAMA_FTYPE`.
    const fn file_type(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
        }
    }
}

impl fmt::Display for GgufFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        })
    }
}

impl FromStr for GgufFormat {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "f16" => Ok(Self::F16),
            "q8_0" => Ok(Self::Q8_0),
            "q4_0" => Ok(Self::Q4_0),
            _ => Err("expected f16, q8_0 or q4_0".to_owned()),
        }
    }
}

/// The format of one tensor: `ggml_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q8_0 = 8,
}

impl Kind {
    fn bytes(self, values: usize) -> u64 {
        let bytes = match self {
            Self::F32 => values * 4,
            Self::F16 => values * 2,
            Self::Q4_0 => values / BLOCK * Q4_0_BYTES,
            Self::Q8_0 => values / BLOCK * Q8_0_BYTES,
        };
        bytes as u64
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => FloatFormat::F32.to_bytes(values),
            Self::F16 => FloatFormat::F16.to_bytes(values),
            Self::Q4_0 => blocks(values, q4_0),
            Self::Q8_0 => blocks(values, q8_0),
        }
    }
}

fn blocks<const BYTES: usize>(
    values: &[f32],
    quantise: fn(&[f32; BLOCK]) -> [u8; BYTES],
) -> Vec<u8> {
    let (values, _) = values.as_chunks::<BLOCK>();
    let blocks: Vec<[u8; BYTES]> = values.par_iter().map(quantise).collect();
    blocks.into_flattened()
}

/// A tensor of the file.
struct Tensor {
    name: String,
    /// Columns first, as GGML orders dimensions.
    shape: Vec<u64>,
    kind: Kind,
    source: Source,
    values: usize,
}

enum Source {
    /// A tensor of the layout.
    Weights(usize),
    /// The same with its rows in the order of [`interleaved`].
    Interleaved { tensor: usize, heads: usize },
    /// The divisors of the rotary frequencies.
    FrequencyFactors,
}

impl Export<'_> {
    /// Writes a GGUF file; `name` is the model's name in it.
    ///
    /// # Errors
    /// If llama.cpp does not support the tokeniser, a weight is too large for f16, or the system
    /// refuses. Nothing is left behind.
    pub fn write_gguf(
        &self,
        path: &Path,
        name: &str,
        format: GgufFormat,
        progress: FileProgress,
    ) -> Result<()> {
        let layout = self.model.layout()?;
        let refused = |reason: String| Error::Export {
            path: path.to_owned(),
            reason,
            hint: Some("export safetensors instead"),
        };
        let metadata = self.metadata(name, format).map_err(refused)?;
        let tensors = tensors(self.model, &layout, format);
        for (tensor, range) in layout.tensors().iter().zip(layout.ranges()) {
            // The scales of quantised blocks are f16 as well.
            if let Some(value) = self.weights[range]
                .iter()
                .find(|value| !FloatFormat::F16.holds(**value))
            {
                let reason = format!("{} holds {value}, which {format} cannot", tensor.name);
                return Err(refused(reason));
            }
        }
        let total: u64 = tensors
            .iter()
            .map(|tensor| tensor.kind.bytes(tensor.values))
            .sum();
        weal_files::write_with(path, Access::Usual, |file| {
            let failed = |error: io::Error| Error::write(path, error);
            let head = head(&metadata, &tensors);
            file.write_all(&head).map_err(failed)?;
            let mut done = 0;
            for tensor in &tensors {
                let bytes = tensor.kind.encode(&self.values_of(&layout, tensor));
                file.write_all(&bytes)
                    .and_then(|()| file.write_all(padding(bytes.len() as u64)))
                    .map_err(failed)?;
                done += bytes.len() as u64;
                progress(done, total);
            }
            Ok(())
        })
    }

    fn values_of(&self, layout: &Layout, tensor: &Tensor) -> Vec<f32> {
        match tensor.source {
            Source::Weights(index) => self.weights[layout.range(index)].to_vec(),
            Source::Interleaved { tensor, heads } => {
                interleaved(&self.weights[layout.range(tensor)], heads, self.model)
            }
            Source::FrequencyFactors => frequency_factors(self.model),
        }
    }

    fn metadata(&self, name: &str, format: GgufFormat) -> std::result::Result<Metadata, String> {
        let model = self.model;
        let architecture = architecture(model);
        let mut metadata = Metadata::default();
        metadata.string("general.architecture", architecture);
        metadata.string("general.name", name);
        metadata.u32("general.file_type", format.file_type());
        metadata.u32("general.quantization_version", 2);
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
            ("rope.dimension_count", head),
            ("vocab_size", model.vocabulary),
        ] {
            let size = u32::try_from(size).map_err(|_| format!("{key} is {size}: too large"))?;
            metadata.u32(&format!("{architecture}.{key}"), size);
        }
        metadata.f32(
            &format!("{architecture}.attention.layer_norm_rms_epsilon"),
            model.norm_epsilon(),
        );
        metadata.f32(
            &format!("{architecture}.rope.freq_base"),
            model.rope_theta as f32,
        );

        let vocabulary = vocabulary(self.tokeniser, model.vocabulary)?;
        metadata.string("tokenizer.ggml.model", vocabulary.model);
        metadata.string("tokenizer.ggml.pre", vocabulary.words);
        metadata.strings("tokenizer.ggml.tokens", &vocabulary.tokens);
        metadata.numbers(
            "tokenizer.ggml.token_type",
            value_type::I32,
            &vocabulary.kinds,
            |kind| kind.to_le_bytes(),
        );
        if let Some(scores) = &vocabulary.scores {
            metadata.numbers("tokenizer.ggml.scores", value_type::F32, scores, |score| {
                score.to_le_bytes()
            });
        }
        metadata.strings("tokenizer.ggml.merges", &vocabulary.merges);
        metadata.bool("tokenizer.ggml.add_space_prefix", vocabulary.space_before);
        // A run trains on texts without a token at their start.
        metadata.bool("tokenizer.ggml.add_bos_token", false);
        metadata.bool("tokenizer.ggml.add_eos_token", false);
        if let Some(token) = self.end_of_text {
            metadata.u32("tokenizer.ggml.eos_token_id", token);
            metadata.u32("tokenizer.ggml.bos_token_id", token);
        }
        Ok(metadata)
    }
}

/// llama.cpp's `llama` rotates neighbours (2i, 2i + 1); its `qwen3` rotates halves (i, i + half),
/// as we do.
fn architecture(model: &ModelSpec) -> &'static str {
    if model.query_key_norm {
        "qwen3"
    } else {
        "llama"
    }
}

fn tensors(model: &ModelSpec, layout: &Layout, format: GgufFormat) -> Vec<Tensor> {
    let interleaves = architecture(model) == "llama";
    let tensor = |(index, spec): (usize, &TensorSpec)| {
        let source = match spec.name.rsplit('.').nth(1) {
            Some("q_proj") if interleaves => Source::Interleaved {
                tensor: index,
                heads: model.heads,
            },
            Some("k_proj") if interleaves => Source::Interleaved {
                tensor: index,
                heads: model.kv_heads,
            },
            _ => Source::Weights(index),
        };
        let shape = spec.shape.iter().rev().map(|size| *size as u64).collect();
        Tensor {
            name: name(&spec.name),
            shape,
            kind: kind(spec, format),
            source,
            values: layout.range(index).len(),
        }
    };
    let mut tensors: Vec<Tensor> = layout.tensors().iter().enumerate().map(tensor).collect();
    if model.rope_scaling.is_some() {
        let half = model.head_width() / 2;
        tensors.push(Tensor {
            name: "rope_freqs.weight".to_owned(),
            shape: vec![half as u64],
            kind: Kind::F32,
            source: Source::FrequencyFactors,
            values: half,
        });
    }
    tensors
}

fn kind(spec: &TensorSpec, format: GgufFormat) -> Kind {
    let [_, columns] = spec.shape[..] else {
        return Kind::F32;
    };
    let is_outer = matches!(
        spec.name.as_str(),
        "model.embed_tokens.weight" | "lm_head.weight"
    );
    match format {
        // A block must not cross rows.
        _ if !columns.is_multiple_of(BLOCK) => Kind::F16,
        GgufFormat::F16 => Kind::F16,
        GgufFormat::Q4_0 if !is_outer => Kind::Q4_0,
        GgufFormat::Q8_0 | GgufFormat::Q4_0 => Kind::Q8_0,
    }
}

/// llama.cpp's name for a tensor.
fn name(ours: &str) -> String {
    let Some(inner) = ours.strip_prefix("model.layers.") else {
        return match ours {
            "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
            "model.norm.weight" => "output_norm.weight".to_owned(),
            "lm_head.weight" => "output.weight".to_owned(),
            other => other.to_owned(),
        };
    };
    let (layer, rest) = inner.split_once('.').unwrap_or((inner, ""));
    let theirs = match rest.strip_suffix(".weight").unwrap_or(rest) {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        other => other,
    };
    format!("blk.{layer}.{theirs}.weight")
}

/// The rows of each head in the order 0, half, 1, half + 1, …, so that neighbours rotate together.
fn interleaved(matrix: &[f32], heads: usize, model: &ModelSpec) -> Vec<f32> {
    let (columns, half) = (model.width, model.head_width() / 2);
    let row = |head: usize, index: usize| &matrix[(head * 2 * half + index) * columns..][..columns];
    let rows = (0..heads)
        .flat_map(|head| (0..half).flat_map(move |index| [(head, index), (head, index + half)]));
    rows.flat_map(|(head, index)| row(head, index).iter().copied())
        .collect()
}

/// The divisor of each plain frequency that gives the scaled one.
fn frequency_factors(model: &ModelSpec) -> Vec<f32> {
    let plain = frequencies(&ModelSpec {
        rope_scaling: None,
        ..model.clone()
    });
    plain
        .iter()
        .zip(frequencies(model))
        .map(|(plain, scaled)| (plain / scaled) as f32)
        .collect()
}

/// Everything before the values of tensors.
fn head(metadata: &Metadata, tensors: &[Tensor]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&metadata.count.to_le_bytes());
    bytes.extend_from_slice(&metadata.bytes);
    let mut offset = 0_u64;
    for tensor in tensors {
        put_string(&mut bytes, &tensor.name);
        bytes.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        tensor
            .shape
            .iter()
            .for_each(|size| bytes.extend_from_slice(&size.to_le_bytes()));
        bytes.extend_from_slice(&(tensor.kind as u32).to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        offset += tensor.kind.bytes(tensor.values).next_multiple_of(ALIGNMENT);
    }
    let length = bytes.len() as u64;
    bytes.extend_from_slice(padding(length));
    bytes
}

/// Zeros up to the next multiple of [`ALIGNMENT`].
fn padding(length: u64) -> &'static [u8] {
    &[0; ALIGNMENT as usize][..(length.next_multiple_of(ALIGNMENT) - length) as usize]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::initial::initial_weights;
    use crate::tokeniser::Tokeniser;

    #[test]
    fn a_tokeniser_that_gguf_cannot_express_comes_with_a_hint() {
        let words = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null,
            "decoder": null,
            "model": { "type": "WordLevel", "vocab": { "<unk>": 0 }, "unk_token": "<unk>" },
        });
        let words = Tokeniser::from_bytes(words.to_string().as_bytes()).unwrap();
        let nano = ModelSpec::preset("nano").unwrap();
        let weights = initial_weights(&nano, &[0; 32]).unwrap();
        let export = Export::new(&nano, &weights, &words, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        let error = export
            .write_gguf(&path, "nano", GgufFormat::F16, &mut |_, _| {})
            .unwrap_err();
        let (why, hint) = (error.to_string(), error.hint().unwrap());
        assert!(why.contains("WordLevel"), "{why}");
        assert!(hint.contains("safetensors"), "{hint}");
    }
}
