//! Writes GGUF files for llama.cpp
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, version 3).

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use weal_files::Access;
use weal_kernels::Layout;

use super::export::Export;
use super::gguf_format::{Chosen, GgufFormat, Kind, Place};
use super::gguf_model::{GgufModel, GgufTensor};
use super::metadata::{Metadata, put_string, value_type};
use super::progress::FileProgress;
use super::vocabulary::{Vocabulary, vocabulary};
use crate::error::{Error, Result};
use crate::tokeniser::{SpecialTokens, TokeniserSettings};

/// Tensors begin at multiples of this many bytes.
const ALIGNMENT: u64 = 32;
/// Version of the format.
const VERSION: u32 = 3;

/// Values that are encoded at a time: whole blocks of every kind.
const PIECE: usize = 1 << 20;

/// What a GGUF file came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GgufSummary {
    /// Bits per weight, norms and scales included.
    pub bits: f64,
    /// Matrices with more bits than the format has, for their rows hold no whole number of its
    /// blocks.
    pub fell_back: usize,
    /// Where llama.cpp reads text otherwise than the run did.
    pub caveat: Option<&'static str>,
}

/// A tensor of the file.
struct Tensor {
    name: String,
    /// Columns first, as GGML orders dimensions.
    shape: Vec<u64>,
    kind: Kind,
    fell_back: bool,
    source: Source,
    values: usize,
}

enum Source {
    Weights(GgufTensor),
    /// The divisors of the rotary frequencies.
    FrequencyFactors(Vec<f32>),
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
    ) -> Result<GgufSummary> {
        let layout = self.model.layout()?;
        let refused = |reason: String| Error::Export {
            path: path.to_owned(),
            reason,
            hint: Some("export safetensors instead"),
        };
        let described = GgufModel::of(self.model).map_err(refused)?;
        let vocabulary = vocabulary(self.tokeniser, self.model.vocabulary).map_err(refused)?;
        let mut metadata = metadata(&described, name, format).map_err(refused)?;
        for (key, text) in &self.labels {
            metadata.string(key, text);
        }
        self.describe_tokens(&vocabulary, &mut metadata);
        let place = Place {
            layers: self.model.layers,
            tied: self.model.tied,
        };
        let tensors = tensors(&described, &layout, (format, place));
        let values_of = |tensor| self.values_of(&described, &layout, tensor);
        let too_large = |tensor| too_large(tensor, &values_of(tensor));
        if let Some((name, value)) = tensors.iter().find_map(too_large) {
            let reason = format!("{name} holds {value}, which {format} cannot");
            return Err(refused(reason));
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
                for piece in values_of(tensor).chunks(PIECE) {
                    let bytes = tensor.kind.encode(piece);
                    file.write_all(&bytes).map_err(failed)?;
                    done += bytes.len() as u64;
                    progress(done, total);
                }
                let bytes = tensor.kind.bytes(tensor.values);
                file.write_all(padding(bytes)).map_err(failed)?;
            }
            Ok::<(), Error>(())
        })?;
        Ok(GgufSummary {
            bits: total as f64 * 8.0 / layout.parameters() as f64,
            fell_back: tensors.iter().filter(|tensor| tensor.fell_back).count(),
            caveat: vocabulary.caveat,
        })
    }

    fn values_of(
        &self,
        described: &GgufModel<'_>,
        layout: &Layout,
        tensor: &Tensor,
    ) -> Cow<'_, [f32]> {
        match &tensor.source {
            Source::FrequencyFactors(factors) => Cow::Owned(factors.clone()),
            Source::Weights(tensor) => {
                let values = &self.weights[tensor.stored.values(layout)];
                match tensor.interleaved_heads {
                    Some(heads) => Cow::Owned(described.interleaved(values, heads)),
                    None => Cow::Borrowed(values),
                }
            }
        }
    }

    fn describe_tokens(&self, vocabulary: &Vocabulary, metadata: &mut Metadata) {
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
        special_tokens(self.tokeniser.special(), vocabulary, metadata);
        if let Some(settings) = self.tokeniser.settings() {
            chat_templates(settings, metadata);
        }
    }
}

/// Writes what special tokens mean. Without them, llama.cpp takes 11, or 0, 1 and 2,
/// whatever these are, so another that no text has is named.
fn special_tokens(special: &SpecialTokens, vocabulary: &Vocabulary, metadata: &mut Metadata) {
    metadata.bool("tokenizer.ggml.add_bos_token", special.adds_bos);
    metadata.bool("tokenizer.ggml.add_eos_token", special.adds_eos);
    let mut ends = special.eos.iter().copied();
    let end = ends.next().or(vocabulary.never);
    for (key, token) in [
        ("bos", special.bos.or(end)),
        ("eos", end),
        // llama.cpp ends a text at these as well: the ends of a turn and of a message.
        ("eot", ends.next()),
        ("eom", ends.next()),
        ("padding", special.pad),
        (
            "unknown",
            special.unk.or(vocabulary.unknown).or(vocabulary.never),
        ),
    ] {
        if let Some(token) = token {
            metadata.u32(&format!("tokenizer.ggml.{key}_token_id"), token);
        }
    }
}

fn chat_templates(settings: &TokeniserSettings, metadata: &mut Metadata) {
    if let Some(template) = settings.chat_template() {
        metadata.string("tokenizer.chat_template", template);
    }
    let others = || settings.other_templates();
    let names: Vec<String> = others().map(|(name, _)| name.to_owned()).collect();
    if !names.is_empty() {
        metadata.strings("tokenizer.chat_templates", &names);
    }
    for (name, template) in others() {
        metadata.string(&format!("tokenizer.chat_template.{name}"), template);
    }
}

/// The tensor's name, and the first value that its kind cannot hold.
fn too_large<'t>(tensor: &'t Tensor, values: &[f32]) -> Option<(&'t str, f32)> {
    let value = values.iter().find(|value| !tensor.kind.holds(**value))?;
    Some((&tensor.name, *value))
}

fn metadata(
    described: &GgufModel<'_>,
    name: &str,
    format: GgufFormat,
) -> std::result::Result<Metadata, String> {
    let mut metadata = Metadata::default();
    metadata.string("general.architecture", described.architecture);
    metadata.string("general.name", name);
    metadata.u32("general.file_type", format.file_type());
    metadata.u32("general.quantization_version", 2);
    described.describe(&mut metadata)?;
    Ok(metadata)
}

fn tensors(
    described: &GgufModel<'_>,
    layout: &Layout,
    (format, place): (GgufFormat, Place),
) -> Vec<Tensor> {
    let tensor = |tensor: GgufTensor| {
        let stored = &tensor.stored;
        let Chosen { kind, fell_back } = format.kind(&tensor.name, &stored.shape, place);
        Tensor {
            name: tensor.name.clone(),
            shape: stored.shape.iter().rev().map(|size| *size as u64).collect(),
            kind,
            fell_back,
            values: stored.values(layout).len(),
            source: Source::Weights(tensor),
        }
    };
    let mut tensors: Vec<Tensor> = described.tensors(layout).into_iter().map(tensor).collect();
    if let Some(factors) = described.frequency_factors() {
        tensors.push(Tensor {
            name: "rope_freqs.weight".to_owned(),
            shape: vec![factors.len() as u64],
            kind: Kind::F32,
            fell_back: false,
            values: factors.len(),
            source: Source::FrequencyFactors(factors),
        });
    }
    tensors
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
    use crate::spec::ModelSpec;
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
        let export = Export::new(&nano, &weights, &words).unwrap();
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
