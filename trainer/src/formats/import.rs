//! Reads a Hugging Face folder: `config.json`, `tokenizer.json`, and the weights in one safetensors
//! file or in shards.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::config::{self, Described};
use super::floats::FloatFormat;
use super::progress::FileProgress;
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// The most bytes of a safetensors header; the crate's own limit.
const MOST_HEADER_BYTES: u64 = 100_000_000;
/// The most bytes of a tensor that are read at once.
const PIECE_BYTES: usize = 1 << 24;

/// An imported model.
#[derive(Debug)]
pub struct Checkpoint {
    /// The model's sizes.
    pub model: ModelSpec,
    /// The weights, flat, in the layout's order.
    pub weights: Vec<f32>,
    /// The bytes of its `tokenizer.json`, if it has one.
    pub tokeniser: Option<Vec<u8>>,
    /// The end-of-text token.
    pub end_of_text: Option<u32>,
}

/// Where a tensor is stored.
#[derive(Debug)]
struct StoredTensor {
    file: PathBuf,
    start: u64,
    bytes: u64,
    shape: Vec<usize>,
    /// The name of the format if it is unsupported.
    format: std::result::Result<FloatFormat, String>,
}

impl Checkpoint {
    /// Reads a folder. `context` shortens the model's context.
    ///
    /// # Errors
    /// [`Error::ModelFile`] names the file, the tensor, and what is wrong: an unsupported
    /// architecture or number format, a shape that contradicts `config.json`, a missing or
    /// truncated shard, a value that is not finite. [`Error::Vocabulary`] if the tokeniser has more
    /// tokens than the embedding.
    pub fn read(folder: &Path, context: Option<usize>, progress: FileProgress) -> Result<Self> {
        let Described {
            mut model,
            mut end_of_text,
        } = read_config(folder)?;
        if let Some(context) = context.filter(|context| *context < model.context) {
            model.context = context;
        }
        let tokeniser = read_optional(&folder.join("tokenizer.json"))?;
        if let Some(json) = &tokeniser {
            Tokeniser::from_bytes(json)?.check_fits(&model)?;
        }
        end_of_text = end_of_text.filter(|token| (*token as usize) < model.vocabulary);
        let places = locate(folder)?;
        let weights = read_weights(folder, &model, &places, progress)?;
        Ok(Self {
            model,
            weights,
            tokeniser,
            end_of_text,
        })
    }
}

fn read_config(folder: &Path) -> Result<Described> {
    let path = folder.join("config.json");
    let json = fs::read(&path).map_err(|error| unreadable(&path, error))?;
    config::read(&json).map_err(|why| refused(&path, why))
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// Locates every tensor of the folder.
fn locate(folder: &Path) -> Result<HashMap<String, StoredTensor>> {
    let index = folder.join("model.safetensors.index.json");
    let Some(json) = read_optional(&index)? else {
        let single = folder.join("model.safetensors");
        if !single.is_file() {
            let pickled = fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .any(|entry| {
                    entry
                        .path()
                        .extension()
                        .is_some_and(|extension| extension == "bin" || extension == "pth")
                });
            return Err(Error::ModelFile {
                path: folder.to_owned(),
                reason: format!("it has neither model.safetensors nor {}", name(&index)),
                hint: pickled
                    .then_some("pickled weights are not supported: convert them to safetensors"),
            });
        }
        return Ok(header(&single)?.into_iter().collect());
    };

    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index_file: Index =
        serde_json::from_slice(&json).map_err(|error| refused(&index, error.to_string()))?;
    let mut shards: BTreeMap<&str, HashMap<String, StoredTensor>> = BTreeMap::new();
    let mut places = HashMap::new();
    for (tensor, shard) in &index_file.weight_map {
        if shard.contains(['/', '\\']) || shard == ".." {
            return Err(refused(
                &index,
                format!("it lists {tensor} in {shard:?}, which is no file of this folder"),
            ));
        }
        if !shards.contains_key(shard.as_str()) {
            let path = folder.join(shard);
            if !path.is_file() {
                return Err(damaged(&path, "this shard is missing"));
            }
            shards.insert(shard, header(&path)?.into_iter().collect());
        }
        let place = shards
            .get_mut(shard.as_str())
            .and_then(|tensors| tensors.remove(tensor));
        let place = place.ok_or_else(|| {
            refused(
                &folder.join(shard),
                format!(
                    "this shard does not hold {tensor}, which {} lists",
                    name(&index)
                ),
            )
        })?;
        places.insert(tensor.clone(), place);
    }
    Ok(places)
}

/// Reads the header of one safetensors file, without allocating its tensors.
fn header(path: &Path) -> Result<Vec<(String, StoredTensor)>> {
    let corrupt = |why: String| damaged(path, why);
    let mut file = File::open(path).map_err(|error| unreadable(path, error))?;
    let bytes = file
        .metadata()
        .map_err(|error| unreadable(path, error))?
        .len();
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_| corrupt("it has no header".into()))?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER_BYTES || length > bytes.saturating_sub(8) {
        return Err(corrupt(format!("its header claims to have {length} bytes")));
    }
    let mut head = vec![0; length as usize];
    file.read_exact(&mut head)
        .map_err(|error| unreadable(path, error))?;
    // Parsing checks that the tensors are contiguous, and that each is as long as its shape.
    let metadata: Metadata =
        serde_json::from_slice(&head).map_err(|error| corrupt(error.to_string()))?;
    let data = 8 + length;
    let expected = data + metadata.data_len() as u64;
    if bytes != expected {
        return Err(corrupt(format!(
            "it has {bytes} bytes, but its header promises {expected}"
        )));
    }
    let place = |(name, info): (String, &TensorInfo)| {
        let (start, end) = info.data_offsets;
        let format = FloatFormat::of_dtype(info.dtype).ok_or_else(|| format!("{:?}", info.dtype));
        let place = StoredTensor {
            file: path.to_owned(),
            start: data + start as u64,
            bytes: (end - start) as u64,
            shape: info.shape.clone(),
            format,
        };
        (name, place)
    };
    Ok(metadata.tensors().into_iter().map(place).collect())
}

/// Reads the tensors of the layout, and refuses any others.
fn read_weights(
    folder: &Path,
    model: &ModelSpec,
    places: &HashMap<String, StoredTensor>,
    progress: FileProgress,
) -> Result<Vec<f32>> {
    let layout = model.layout()?;
    let mut found = Vec::with_capacity(layout.tensors().len());
    for tensor in layout.tensors() {
        let place = places
            .get(&tensor.name)
            .ok_or_else(|| refused(folder, format!("{} is missing", tensor.name)))?;
        if place.shape != tensor.shape {
            let why = format!(
                "{} is {:?}, but config.json promises {:?}",
                tensor.name, place.shape, tensor.shape
            );
            return Err(refused(&place.file, why));
        }
        let format = place.format.as_ref().map_err(|dtype| {
            refused(
                &place.file,
                format!(
                    "{} is stored as {dtype}; supported are F32, F16 and BF16",
                    tensor.name
                ),
            )
        })?;
        found.push((place, *format));
    }
    let foreign = places.iter().find(|(name, _)| {
        let is_ours = layout.tensors().iter().any(|tensor| tensor.name == **name);
        !is_ours && !is_redundant(name, model)
    });
    if let Some((name, place)) = foreign {
        return Err(refused(
            &place.file,
            format!("{name} belongs to no architecture that is supported"),
        ));
    }

    let total: u64 = found.iter().map(|(place, _)| place.bytes).sum();
    let mut done = 0;
    let mut weights = vec![0.0; layout.parameters()];
    for (range, (place, format)) in layout.ranges().zip(found) {
        read_tensor(place, format, &mut weights[range], &mut |bytes| {
            done += bytes;
            progress(done, total);
        })?;
    }
    check_weights(&layout, &weights).map_err(|error| refused(folder, error.to_string()))?;
    Ok(weights)
}

/// Whether a tensor repeats what other tensors or the config say.
fn is_redundant(name: &str, model: &ModelSpec) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || model.tied && name == "lm_head.weight"
}

fn read_tensor(
    place: &StoredTensor,
    format: FloatFormat,
    values: &mut [f32],
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut file = File::open(&place.file).map_err(|error| unreadable(&place.file, error))?;
    file.seek(SeekFrom::Start(place.start))
        .map_err(|error| unreadable(&place.file, error))?;
    let mut bytes = vec![0; PIECE_BYTES.min(values.len() * format.bytes())];
    for piece in values.chunks_mut(PIECE_BYTES / format.bytes()) {
        let bytes = &mut bytes[..piece.len() * format.bytes()];
        file.read_exact(bytes)
            .map_err(|error| unreadable(&place.file, error))?;
        format.read(bytes, piece);
        progress(bytes.len() as u64);
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::ModelFile {
        path: path.to_owned(),
        reason: reason.into(),
        hint: None,
    }
}

/// A file that is damaged or incomplete.
fn damaged(path: &Path, reason: impl Into<String>) -> Error {
    Error::ModelFile {
        path: path.to_owned(),
        reason: reason.into(),
        hint: Some("the file is damaged: download it again"),
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Read {
        path: path.to_owned(),
        source,
    }
}
