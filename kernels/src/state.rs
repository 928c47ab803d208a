//! The state root: 32 bytes that identify the weights.
//!
//! Each tensor's values, as little-endian bytes, are a blob (see [`weal_proto::outline`]). The root
//! is the hash of the layout and of the tensors' blob hashes in the layout's order. So a newcomer
//! that trusts a root can fetch every tensor in chunks from strangers, and prove each chunk as it
//! arrives.

use rayon::prelude::*;
use weal_proto::{CHUNK_BYTES, Outline};

use crate::{Error, Layout};

const CONTEXT: &str = "commonweal state v1";
const VALUE_BYTES: usize = size_of::<f32>();
/// Values per chunk. A chunk never ends inside a value, because 4 divides 1 MiB.
const CHUNK_VALUES: usize = CHUNK_BYTES / VALUE_BYTES;
/// Values converted to bytes at a time: 32 KiB stays in the L1 or L2 cache, and fills BLAKE3's
/// widest vectors twice.
const BATCH_VALUES: usize = 8192;

/// The outlines of all tensors' blobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StateOutline {
    /// One outline per tensor, in the layout's order.
    pub tensors: Vec<Outline>,
}

/// Computes the outlines of the weights, hashing chunks in parallel on the current rayon pool.
///
/// # Errors
/// [`Error::Length`] if `theta` does not match the layout.
pub fn outline(layout: &Layout, theta: &[f32]) -> Result<StateOutline, Error> {
    layout.check_length("theta", theta)?;
    // One list of chunks for all tensors, so that threads stay equally busy whether tensors are
    // few and large or many and small.
    let hashes: Vec<[u8; 32]> = layout
        .ranges()
        .flat_map(|range| theta[range].chunks(CHUNK_VALUES))
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(hash_values)
        .collect();
    Ok(outline_of(layout, &hashes))
}

/// The outlines of the tensors, given the hashes of all their chunks in order.
pub(crate) fn outline_of(layout: &Layout, hashes: &[[u8; 32]]) -> StateOutline {
    let mut left = hashes;
    let tensors = layout
        .ranges()
        .map(|range| {
            let (chunks, rest) = left.split_at(range.len().div_ceil(CHUNK_VALUES));
            left = rest;
            Outline {
                bytes: (range.len() * VALUE_BYTES) as u64,
                chunks: chunks.to_vec(),
            }
        })
        .collect();
    StateOutline { tensors }
}

/// Computes the state root of the weights. It is the same on every machine and for any number of
/// threads.
///
/// # Errors
/// [`Error::Length`] if `theta` does not match the layout.
pub fn root(layout: &Layout, theta: &[f32]) -> Result<[u8; 32], Error> {
    Ok(root_of(layout.hash(), &outline(layout, theta)?))
}

impl StateOutline {
    /// The state root: BLAKE3 with the context `commonweal state v1` over the layout's hash and
    /// each tensor's blob hash.
    ///
    /// # Errors
    /// [`Error::StateOutline`] unless there is one outline per tensor with the right length and
    /// number of chunks. An outline from a stranger may have any shape.
    pub fn root(&self, layout: &Layout) -> Result<[u8; 32], Error> {
        let fits = self.tensors.len() == layout.tensors().len()
            && self
                .tensors
                .iter()
                .zip(layout.ranges())
                .all(|(outline, range)| {
                    outline.bytes == (range.len() * VALUE_BYTES) as u64
                        && outline.chunks.len() as u64 == Outline::chunk_count(outline.bytes)
                });
        if fits {
            Ok(root_of(layout.hash(), self))
        } else {
            Err(Error::StateOutline)
        }
    }
}

/// The bytes of chunk `chunk` of tensor `tensor`'s blob, to answer a peer's request; `None` if
/// there is no such tensor or chunk.
///
/// # Errors
/// [`Error::Length`] if `theta` does not match the layout.
pub fn chunk(
    layout: &Layout,
    theta: &[f32],
    tensor: usize,
    chunk: usize,
) -> Result<Option<Vec<u8>>, Error> {
    layout.check_length("theta", theta)?;
    let values = layout
        .ranges()
        .nth(tensor)
        .and_then(|range| theta[range].chunks(CHUNK_VALUES).nth(chunk));
    Ok(values.map(|values| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }))
}

/// Writes a tensor's complete blob into `theta`. Check the bytes against the tensor's outline
/// first.
///
/// # Errors
/// [`Error::NoSuchTensor`], or [`Error::Length`] if `theta` does not match the layout or the bytes
/// do not match the tensor's length.
pub fn restore(
    layout: &Layout,
    theta: &mut [f32],
    tensor: usize,
    bytes: &[u8],
) -> Result<(), Error> {
    layout.check_length("theta", theta)?;
    let tensors = layout.tensors().len();
    let range = layout
        .ranges()
        .nth(tensor)
        .ok_or(Error::NoSuchTensor { tensor, tensors })?;
    let (values, rest) = bytes.as_chunks::<VALUE_BYTES>();
    if values.len() != range.len() || !rest.is_empty() {
        let (expected, got) = (range.len(), bytes.len().div_ceil(VALUE_BYTES));
        return Err(Error::Length {
            what: "tensor blob",
            expected,
            got,
        });
    }
    for (value, &bytes) in theta[range].iter_mut().zip(values) {
        *value = f32::from_le_bytes(bytes);
    }
    Ok(())
}

/// The state root, given the tensors' blob hashes in the layout's order. A newcomer uses it to
/// check a stranger's list of hashes before it fetches any weights. `None` unless there is one hash
/// per tensor.
pub fn root_of_hashes(layout: &Layout, tensors: &[[u8; 32]]) -> Option<[u8; 32]> {
    (tensors.len() == layout.tensors().len())
        .then(|| hash_root(layout.hash(), tensors.iter().copied()))
}

fn root_of(layout_hash: [u8; 32], outline: &StateOutline) -> [u8; 32] {
    hash_root(
        layout_hash,
        outline.tensors.iter().map(|tensor| tensor.hash().into()),
    )
}

fn hash_root(layout_hash: [u8; 32], tensors: impl Iterator<Item = [u8; 32]>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&layout_hash);
    for tensor in tensors {
        hasher.update(&tensor);
    }
    *hasher.finalize().as_bytes()
}

/// Plain BLAKE3 of the values' little-endian bytes.
pub(crate) fn hash_values(values: &[f32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = [0u8; BATCH_VALUES * VALUE_BYTES];
    for batch in values.chunks(BATCH_VALUES) {
        write_bytes(batch, &mut bytes);
        hasher.update(&bytes[..size_of_val(batch)]);
    }
    *hasher.finalize().as_bytes()
}

/// The values as little-endian bytes, four each, as state roots and files have them.
pub fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(values)];
    let batches = bytes.par_chunks_mut(BATCH_VALUES * VALUE_BYTES);
    let batches = batches.zip(values.par_chunks(BATCH_VALUES));
    batches.for_each(|(bytes, values)| write_bytes(values, bytes));
    bytes
}

/// Writes the values as little-endian bytes to the start of `bytes`.
pub(crate) fn write_bytes(values: &[f32], bytes: &mut [u8]) {
    let (slots, _) = bytes.as_chunks_mut::<VALUE_BYTES>();
    for (slot, value) in slots.iter_mut().zip(values) {
        *slot = value.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bits, layout, on_any_number_of_threads, values};

    fn tensor_bytes(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn each_tensor_is_outlined_as_the_blob_of_its_bytes() {
        let layout = layout(&[1, BATCH_VALUES + 1, CHUNK_VALUES, 2 * CHUNK_VALUES + 3]);
        let theta = values(1, layout.parameters());
        let outline = on_any_number_of_threads(|| outline(&layout, &theta).unwrap());
        for (range, tensor) in layout.ranges().zip(&outline.tensors) {
            assert_eq!(*tensor, Outline::of(&tensor_bytes(&theta[range])));
        }
        assert_eq!(root(&layout, &theta), outline.root(&layout));
        assert!(to_bytes(&theta) == tensor_bytes(&theta));

        let hashes: Vec<[u8; 32]> = outline
            .tensors
            .iter()
            .map(|tensor| tensor.hash().into())
            .collect();
        assert_eq!(root_of_hashes(&layout, &hashes), outline.root(&layout).ok());
        assert_eq!(root_of_hashes(&layout, &hashes[1..]), None);
    }

    #[test]
    fn the_root_depends_on_every_bit_and_on_the_layout() {
        let (split, whole) = (layout(&[2, 2]), layout(&[4]));
        let theta = [0.0, 1.0, f32::NAN, -1.0];
        let mut other = theta;
        other[0] = -0.0;
        let root_of = |layout, theta: &[f32]| root(layout, theta).unwrap();
        assert_ne!(root_of(&split, &theta), root_of(&split, &other));
        assert_ne!(root_of(&split, &theta), root_of(&whole, &theta));
    }

    #[test]
    fn a_newcomer_restores_what_a_peer_serves() {
        let layout = layout(&[3, CHUNK_VALUES + 5]);
        let theirs = values(2, layout.parameters());
        let outline = outline(&layout, &theirs).unwrap();
        let mut ours = vec![0.0; layout.parameters()];
        for (number, tensor) in outline.tensors.iter().enumerate() {
            let mut bytes = Vec::new();
            for index in 0..tensor.chunks.len() {
                let chunk = chunk(&layout, &theirs, number, index).unwrap().unwrap();
                tensor.verify_chunk(index, &chunk).unwrap();
                bytes.extend(chunk);
            }
            restore(&layout, &mut ours, number, &bytes).unwrap();
        }
        assert_eq!(bits(&ours), bits(&theirs));
        assert_eq!(chunk(&layout, &theirs, 0, 1), Ok(None));
        assert_eq!(chunk(&layout, &theirs, 2, 0), Ok(None));
    }

    #[test]
    fn weights_and_outlines_of_another_layout_are_refused() {
        let layout = layout(&[2, 1]);
        let mut theta = [1.0, 2.0, 3.0];
        assert!(matches!(
            root(&layout, &theta[1..]),
            Err(Error::Length {
                expected: 3,
                got: 2,
                ..
            })
        ));
        assert!(matches!(
            restore(&layout, &mut theta, 0, &[0; 9]),
            Err(Error::Length {
                expected: 2,
                got: 3,
                ..
            })
        ));
        assert_eq!(
            restore(&layout, &mut theta, 2, &[]),
            Err(Error::NoSuchTensor {
                tensor: 2,
                tensors: 2
            })
        );
        assert_eq!(theta, [1.0, 2.0, 3.0]);

        let genuine = outline(&layout, &theta).unwrap();
        let spoilt = |spoil: fn(&mut StateOutline)| {
            let mut outline = genuine.clone();
            spoil(&mut outline);
            outline.root(&layout)
        };
        assert_eq!(
            spoilt(|outline| outline.tensors.truncate(1)),
            Err(Error::StateOutline)
        );
        assert_eq!(
            spoilt(|outline| outline.tensors[0].bytes += 4),
            Err(Error::StateOutline)
        );
        assert_eq!(
            spoilt(|outline| outline.tensors[1].chunks.clear()),
            Err(Error::StateOutline)
        );
    }
}
