//! Writes a Hugging Face folder, for `AutoModelForCausalLM.from_pretrained`, candle and vLLM.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use safetensors::{Dtype, View, serialize_to_file};
use serde_json::{Value, json};
use weal_kernels::Layout;

use super::architecture::Family;
use super::export::Export;
use super::floats::FloatFormat;
use super::progress::FileProgress;
use super::stored::{StoredTensor, stored_tensors};
use super::{beside, config};
use crate::error::{Error, Result};
use crate::write_inside::write_inside;

/// The most bytes of a shard; Hugging Face's own limit.
pub(super) const SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor that is converted to bytes only when it is written.
struct Lazy<'a> {
    stored: &'a StoredTensor,
    values: &'a [f32],
    format: FloatFormat,
    progress: &'a RefCell<dyn FnMut(usize) + 'a>,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.format.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.stored.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = if self.stored.less_one {
            let less: Vec<f32> = self.values.iter().map(|gain| gain - 1.0).collect();
            self.format.to_bytes(&less)
        } else {
            self.format.to_bytes(self.values)
        };
        (self.progress.borrow_mut())(bytes.len());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.values.len() * self.format.bytes()
    }
}

impl Export<'_> {
    /// Writes a new folder with `config.json`, `generation_config.json`, `tokenizer.json`,
    /// `tokenizer_config.json`, `special_tokens_map.json`, chat templates, and the weights in files
    /// of at most 5 GB.
    ///
    /// # Errors
    /// If `folder` exists already, a weight is too large for the format, or the system refuses.
    /// Nothing is left behind.
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
        let family = config::family_of(self.model).map_err(|reason| Error::Export {
            path: folder.to_owned(),
            reason,
            hint: None,
        })?;
        self.check_range(folder, &layout, format)?;
        weal_files::create_folder(folder, |inside| {
            self.write_settings(inside, family, format)?;
            let stored = stored_tensors(family, self.model, &layout);
            self.write_weights(inside, &layout, &stored, (format, shard_bytes, progress))
        })
    }

    /// Checks that the format can hold every weight.
    fn check_range(&self, folder: &Path, layout: &Layout, format: FloatFormat) -> Result<()> {
        for (tensor, range) in layout.tensors().iter().zip(layout.ranges()) {
            let mut values = self.weights[range].iter();
            if let Some(value) = values.find(|value| !format.holds(**value)) {
                return Err(Error::Export {
                    path: folder.to_owned(),
                    reason: format!("{} holds {value}, which {format} cannot", tensor.name),
                    hint: Some("choose f32 or bf16"),
                });
            }
        }
        Ok(())
    }

    /// Writes everything but the weights.
    fn write_settings(&self, folder: &Path, family: Family, format: FloatFormat) -> Result<()> {
        let model = config::write(family, self.model, format, self.tokeniser.special());
        write_json(folder, "config.json", &model)?;
        for (name, settings) in beside::files(self.model, self.tokeniser) {
            write_json(folder, name, &settings)?;
        }
        beside::write_templates(folder, self.tokeniser)?;
        let tokeniser = beside::tokenizer_json(self.tokeniser)?;
        write_inside(&folder.join("tokenizer.json"), &tokeniser)
    }

    /// Writes the weights in shards, and their index if there is more than one.
    fn write_weights(
        &self,
        folder: &Path,
        layout: &Layout,
        stored: &[StoredTensor],
        (format, shard_bytes, progress): (FloatFormat, u64, FileProgress),
    ) -> Result<()> {
        let sizes = stored
            .iter()
            .map(|tensor| (tensor.values(layout).len() * format.bytes()) as u64);
        let shards = shards(sizes.collect(), shard_bytes);
        let total = (layout.parameters() * format.bytes()) as u64;
        let mut weight_map = BTreeMap::new();
        let mut done = 0;
        let progress = RefCell::new(|bytes: usize| {
            done += bytes as u64;
            progress(done, total);
        });
        for (number, shard) in shards.iter().enumerate() {
            let file = match shards.len() {
                1 => "model.safetensors".to_owned(),
                count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
            };
            let tensors = stored[shard.clone()].iter().map(|stored| {
                let lazy = Lazy {
                    stored,
                    values: &self.weights[stored.values(layout)],
                    format,
                    progress: &progress,
                };
                (stored.name.as_str(), lazy)
            });
            let path = folder.join(&file);
            let format = ("format".to_owned(), "pt".to_owned());
            let metadata = self.labels.clone().into_iter().chain([format]).collect();
            serialize_to_file(tensors, Some(metadata), &path)
                .map_err(|error| Error::write(&path, error))?;
            // The safetensors crate makes files that only their owner can read.
            weal_files::copy_permissions(&path, &folder.join("config.json"))?;
            for tensor in &stored[shard.clone()] {
                weight_map.insert(tensor.name.clone(), file.clone());
            }
        }
        if shards.len() > 1 {
            let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
            write_json(folder, "model.safetensors.index.json", &index)?;
        }
        Ok(())
    }
}

fn write_json(folder: &Path, name: &str, value: &Value) -> Result<()> {
    write_inside(&folder.join(name), format!("{value:#}\n").as_bytes())
}

/// Groups consecutive tensors of these sizes into shards of at most `most` bytes, or of one tensor.
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
