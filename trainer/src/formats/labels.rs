//! Texts in the metadata of model files: where the weights come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;

use super::metadata::value_type;
use crate::error::{Error, Result};

/// Texts by their keys, such as `commonweal.run`.
pub type Labels = BTreeMap<String, String>;

/// The most bytes of a safetensors header, as the format has it.
const HEADER_BYTES: u64 = 100_000_000;
/// The most bytes of a key or a text of interest.
const TEXT_BYTES: u64 = 1 << 24;
/// The most metadata entries, and the most elements of one.
const ENTRIES: u64 = 1 << 24;
/// How deeply GGUF's arrays may be nested.
const DEPTH: u32 = 4;

/// The texts in the metadata of a model whose keys begin with `prefix`. `path` is a folder of
/// safetensors, or a GGUF file.
///
/// # Errors
/// If the file cannot be read, or its metadata is damaged.
pub fn read_labels(path: &Path, prefix: &str) -> Result<Labels> {
    let is_folder = path.is_dir();
    let file = if is_folder {
        first_shard(path)
    } else {
        path.to_owned()
    };
    let failed = |error: io::Error| Error::ModelFile {
        path: file.clone(),
        reason: error.to_string(),
        hint: None,
    };
    let mut reader = BufReader::new(File::open(&file).map_err(failed)?);
    let read = if is_folder {
        safetensors(&mut reader)
    } else {
        gguf(&mut reader)
    };
    let mut labels = read.map_err(failed)?;
    labels.retain(|key, _| key.starts_with(prefix));
    Ok(labels)
}

/// The first file of weights of a folder.
fn first_shard(folder: &Path) -> std::path::PathBuf {
    let is_first = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| {
            name.starts_with("model-00001-of-") && name.ends_with(".safetensors")
        })
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths
        .find(is_first)
        .unwrap_or_else(|| folder.join("model.safetensors"))
}

fn safetensors(reader: &mut impl Read) -> io::Result<Labels> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__", default)]
        metadata: Labels,
    }
    let length = u64::from_le_bytes(bytes(reader)?);
    if length > HEADER_BYTES {
        return Err(damaged("its header is too long"));
    }
    let header = take(reader, length)?;
    let header: Header = serde_json::from_slice(&header)?;
    Ok(header.metadata)
}

fn gguf(reader: &mut impl Read) -> io::Result<Labels> {
    if &bytes(reader)? != b"GGUF" {
        return Err(damaged("it is not a GGUF file"));
    }
    let version = u32::from_le_bytes(bytes(reader)?);
    if !(2..=3).contains(&version) {
        return Err(damaged("its version of GGUF is unknown"));
    }
    let _tensors = u64::from_le_bytes(bytes(reader)?);
    let count = u64::from_le_bytes(bytes(reader)?);
    if count > ENTRIES {
        return Err(damaged("it has too many metadata entries"));
    }
    let mut labels = Labels::new();
    for _ in 0..count {
        let key = text(reader)?;
        let kind = u32::from_le_bytes(bytes(reader)?);
        if kind == value_type::STRING {
            labels.insert(key, text(reader)?);
        } else {
            skip(reader, kind, DEPTH)?;
        }
    }
    Ok(labels)
}

/// Reads over a value.
fn skip(reader: &mut impl Read, kind: u32, depth: u32) -> io::Result<()> {
    if kind == value_type::STRING {
        let length = u64::from_le_bytes(bytes(reader)?);
        return pass(reader, length);
    }
    if kind != value_type::ARRAY {
        return pass(reader, width(kind)?);
    }
    let of = u32::from_le_bytes(bytes(reader)?);
    let count = u64::from_le_bytes(bytes(reader)?);
    if depth == 0 || count > ENTRIES {
        return Err(damaged("it has an array that is too large"));
    }
    if of != value_type::STRING && of != value_type::ARRAY {
        return pass(reader, count * width(of)?);
    }
    (0..count).try_for_each(|_| skip(reader, of, depth - 1))
}

/// Bytes of a value of one of GGUF's fixed types.
fn width(kind: u32) -> io::Result<u64> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(damaged("it has a value of an unknown type")),
    }
}

fn bytes<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn text(reader: &mut impl Read) -> io::Result<String> {
    let length = u64::from_le_bytes(bytes(reader)?);
    if length > TEXT_BYTES {
        return Err(damaged("it has a text that is too long"));
    }
    String::from_utf8(take(reader, length)?).map_err(|_| damaged("it has a text that is not UTF-8"))
}

/// The next bytes. Memory grows with what is really there.
fn take(reader: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    reader.take(length).read_to_end(&mut found)?;
    if found.len() as u64 == length {
        Ok(found)
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

fn pass(reader: &mut impl Read, length: u64) -> io::Result<()> {
    if io::copy(&mut reader.take(length), &mut io::sink())? == length {
        Ok(())
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::metadata::Metadata;

    fn file(metadata: &Metadata) -> Vec<u8> {
        let head = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
        [&head[..], &metadata.count.to_le_bytes(), &metadata.bytes].concat()
    }

    #[test]
    fn texts_are_found_among_values_of_all_kinds() {
        let mut metadata = Metadata::default();
        metadata.u32("a", 1);
        metadata.bool("b", true);
        metadata.strings("c", &["x".into(), "yz".into()]);
        metadata.numbers("d", value_type::F32, &[1.0f32, 2.0], f32::to_le_bytes);
        metadata.string("commonweal.run", "ab");
        metadata.f32("e", 0.5);
        let bytes = file(&metadata);
        let labels = gguf(&mut &bytes[..]).unwrap();
        assert_eq!(labels.get("commonweal.run").map(String::as_str), Some("ab"));
        for length in 0..bytes.len() {
            assert!(gguf(&mut &bytes[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn hostile_lengths_take_no_memory() {
        let mut bytes = file(&Metadata::default());
        let count = bytes.len() - 8;
        bytes[count..].copy_from_slice(&1u64.to_le_bytes());
        bytes.extend_from_slice(&(TEXT_BYTES).to_le_bytes());
        assert!(gguf(&mut &bytes[..]).is_err());
        assert!(safetensors(&mut &(HEADER_BYTES + 1).to_le_bytes()[..]).is_err());
        assert!(safetensors(&mut &HEADER_BYTES.to_le_bytes()[..]).is_err());
    }
}
