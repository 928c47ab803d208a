//! A Hugging Face folder, written: it loads with `AutoModelForCausalLM.from_pretrained`, in candle,
//! in vLLM.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use safetensors::{Dtype, View, serialize_to_file};
use serde_json::{Value, json};
use weal_kernels::TensorSpec;

use super::{Export, FileProgress, FloatFormat, config, vocabulary};
use crate::atomic_file;
use crate::error::Result;

/// The most bytes of a shard, as Hugging Face cuts them.
pub(super) const SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor that becomes bytes when it is written, not before.
struct Lazy<'a> {
    spec: &'a TensorSpec,
    values: &'a [f32],
    format: FloatFormat,
    told: &'a RefCell<dyn FnMut(usize) + 'a>,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.format.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.spec.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.format.to_bytes(self.values);
        (self.told.borrow_mut())(bytes.len());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.values.len() * self.format.bytes()
    }
}

impl Export<'_> {
    /// Writes a new folder with `config.json`, `generation_config.json`, `tokenizer.json`,
    /// `tokenizer_config.json`, and the weights in files of at most 5 GB.
    ///
    /// # Errors
    /// Where there is something at `folder` already, a weight is too large for the format, or the
    /// disk refuses; nothing is left behind then.
    pub fn write_folder(
        &self,
        folder: &Path,
        format: FloatFormat,
        progress: FileProgress,
    ) -> Result<()> {
        self.write_shards(folder, format, SHARD_BYTES, progress)
    }

    pub(super) fn write_shards(
        &self,
        folder: &Path,
        format: FloatFormat,
        shard_bytes: u64,
        progress: FileProgress,
    ) -> Result<()> {
        let layout = self.model.layout()?;
        for (tensor, range) in layout.tensors().iter().zip(layout.ranges()) {
            if let Some(value) = self.weights[range]
                .iter()
                .find(|value| !format.holds(**value))
            {
                return Err(atomic_file::refused(
                    folder,
                    format!(
                        "{} holds {value}, which {format} cannot; choose f32 or bf16",
                        tensor.name
                    ),
                ));
            }
        }
        atomic_file::folder(folder, |inside| {
            let json = |name: &str, value: &Value| {
                atomic_file::write(&inside.join(name), format!("{value:#}\n").as_bytes())
            };
            json(
                "config.json",
                &config::write(self.model, format, self.end_of_text),
            )?;
            json("generation_config.json", &self.generation_config())?;
            json("tokenizer_config.json", &self.tokeniser_config())?;
            atomic_file::write(
                &inside.join("tokenizer.json"),
                &vocabulary::tokenizer_json(self.tokeniser),
            )?;

            let sizes = layout
                .ranges()
                .map(|range| (range.len() * format.bytes()) as u64);
            let shards = shards(sizes.collect(), shard_bytes);
            let total = (layout.parameters() * format.bytes()) as u64;
            let mut weight_map = BTreeMap::new();
            let mut done = 0;
            let told = RefCell::new(|bytes: usize| {
                done += bytes as u64;
                progress(done, total);
            });
            for (number, shard) in shards.iter().enumerate() {
                let file = match shards.len() {
                    1 => "model.safetensors".to_owned(),
                    count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
                };
                let tensors = shard.clone().map(|tensor| {
                    let spec = &layout.tensors()[tensor];
                    (
                        spec.name.as_str(),
                        Lazy {
                            spec,
                            values: &self.weights[layout.range(tensor)],
                            format,
                            told: &told,
                        },
                    )
                });
                let path = inside.join(&file);
                let metadata = [("format".to_owned(), "pt".to_owned())].into();
                serialize_to_file(tensors, Some(metadata), &path)
                    .map_err(|error| atomic_file::refused(&path, error.to_string()))?;
                // The crate makes files for their owner alone.
                atomic_file::like(&path, &inside.join("config.json"))?;
                for tensor in shard.clone() {
                    weight_map.insert(layout.tensors()[tensor].name.clone(), file.clone());
                }
            }
            if shards.len() > 1 {
                let index =
                    json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
                json("model.safetensors.index.json", &index)?;
            }
            Ok(())
        })
    }

    fn generation_config(&self) -> Value {
        match self.end_of_text {
            Some(token) => json!({ "do_sample": true, "eos_token_id": token }),
            None => json!({ "do_sample": true }),
        }
    }

    fn tokeniser_config(&self) -> Value {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.model.context,
            "clean_up_tokenization_spaces": false,
        });
        if let Some(text) = self
            .end_of_text
            .and_then(|token| self.tokeniser.name_of(token))
        {
            config["eos_token"] = json!(text);
        }
        config
    }
}

/// Cuts tensors of these sizes into runs of at most `most` bytes, or of one tensor.
fn shards(sizes: Vec<u64>, most: u64) -> Vec<Range<usize>> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (tensor, size) in sizes.iter().enumerate() {
        if tensor > start && bytes + size > most {
            shards.push(start..tensor);
            (start, bytes) = (tensor, 0);
        }
        bytes += size;
    }
    shards.push(start..sizes.len());
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_as_large_as_allowed_and_hold_every_tensor() {
        let ends = |sizes, most| {
            shards(sizes, most)
                .iter()
                .map(|shard| shard.end)
                .collect::<Vec<_>>()
        };
        assert_eq!(ends(vec![4, 4, 4], 100), [3]);
        assert_eq!(ends(vec![4, 4, 4, 9, 1], 8), [2, 3, 4, 5]);
        assert_eq!(ends(vec![9], 8), [1]);
        assert_eq!(shards(vec![4, 9, 1], 8), [0..1, 1..2, 2..3]);
    }
}
