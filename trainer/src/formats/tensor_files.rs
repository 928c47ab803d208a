//! Where a Hugging Face folder stores its tensors: in one safetensors file, or in shards with an
//! index.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::floats::FloatFormat;
use crate::error::{Error, Result};

/// The most bytes of a safetensors header; the crate's own limit.
const MOST_HEADER_BYTES: u64 = 100_000_000;
/// The first bytes of a pointer that Git LFS leaves in place of a file.
const LFS_POINTER: &[u8; 8] = b"version ";
/// Where a tensor is stored.
#[derive(Debug)]
pub(super) struct Place {
    pub file: PathBuf,
    start: u64,
    pub bytes: u64,
    pub shape: Vec<usize>,
    /// The name of the format if it is unsupported.
    format: std::result::Result<FloatFormat, String>,
}

impl Place {
    /// The format, if it is supported.
    pub(super) fn supported(&self, name: &str) -> Result<FloatFormat> {
        self.format.as_ref().copied().map_err(|dtype| {
            let why = format!("{name} is stored as {dtype}; supported are F32, F16 and BF16");
            refused(&self.file, why)
        })
    }

    /// The file, at the tensor's first byte.
    pub(super) fn open(&self) -> Result<File> {
        let failed = |error| unreadable(&self.file, error);
        let mut file = File::open(&self.file).map_err(failed)?;
        file.seek(SeekFrom::Start(self.start)).map_err(failed)?;
        Ok(file)
    }

    /// Reads the next values.
    pub(super) fn read(
        &self,
        file: &mut File,
        format: FloatFormat,
        values: &mut [f32],
    ) -> Result<()> {
        let mut bytes = vec![0; values.len() * format.bytes()];
        file.read_exact(&mut bytes)
            .map_err(|error| unreadable(&self.file, error))?;
        format.read(&bytes, values);
        Ok(())
    }
}

pub(super) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// Locates every tensor of the folder.
pub(super) fn locate(folder: &Path) -> Result<HashMap<String, Place>> {
    let index = folder.join("model.safetensors.index.json");
    let Some(json) = read_optional(&index)? else {
        let single = folder.join("model.safetensors");
        if single.is_symlink() && !single.exists() {
            return Err(damaged(&single, "it is a link that leads nowhere"));
        }
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
                hint: pickled.then_some(
                    "pickled weights are not read: load them in transformers, and write them \
                         with save_pretrained(FOLDER, safe_serialization=True)",
                ),
            });
        }
        return Ok(header(&single)?.into_iter().collect());
    };

    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&json);
    let index_file: Index =
        serde_json::from_slice(json).map_err(|error| refused(&index, error.to_string()))?;
    let mut shards: BTreeMap<&str, HashMap<String, Place>> = BTreeMap::new();
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
fn header(path: &Path) -> Result<Vec<(String, Place)>> {
    let corrupt = |why: String| damaged(path, why);
    let mut file = File::open(path).map_err(|error| unreadable(path, error))?;
    let bytes = file
        .metadata()
        .map_err(|error| unreadable(path, error))?
        .len();
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_| corrupt("it has no header".into()))?;
    if length == *LFS_POINTER {
        return Err(Error::ModelFile {
            path: path.to_owned(),
            reason: "it is a pointer of Git LFS, not the file itself".to_owned(),
            hint: Some("get the files with `git lfs pull`"),
        });
    }
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
        let place = Place {
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

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

pub(super) fn refused(path: &Path, reason: impl Into<String>) -> Error {
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

pub(super) fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Read {
        path: path.to_owned(),
        source,
    }
}
