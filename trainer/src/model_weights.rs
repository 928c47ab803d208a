//! Weights of a model, in memory or in a file.
//!
//! A file is mapped: the system reads what is looked at, and drops it again when memory is short.
//! So agreed weights of a billion parameters take no memory while a node trains.

use std::fs::File;
use std::io;
use std::ops::Deref;

#[cfg(target_endian = "little")]
use memmap2::Mmap;

/// Weights, flat, in the layout's order. They dereference to a slice.
#[derive(Debug)]
pub struct ModelWeights(Place);

#[derive(Debug)]
enum Place {
    Memory(Vec<f32>),
    #[cfg(target_endian = "little")]
    File {
        mapping: Mmap,
        count: usize,
    },
}

impl ModelWeights {
    /// Maps a file of `count` little-endian f32 values, and nothing else. The file must not be
    /// changed in place as long as these weights exist; it may be deleted or replaced.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it is longer or shorter, and what the system says.
    pub fn in_file(file: &File, count: usize) -> io::Result<Self> {
        let (found, expected) = (file.metadata()?.len(), count as u64 * 4);
        if found != expected {
            let reason = format!("{found} bytes instead of {expected}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Self::map(file, count)
    }

    #[cfg(target_endian = "little")]
    fn map(file: &File, count: usize) -> io::Result<Self> {
        if count == 0 {
            return Ok(Vec::new().into());
        }
        // SAFETY: nobody writes to the file in place, as the caller promises. If somebody else
        // does, values change, and every pattern of bits is a value; if somebody cuts the file
        // short, the system ends the process.
        #[allow(unsafe_code)]
        let mapping = unsafe { Mmap::map(file)? };
        Ok(Self(Place::File { mapping, count }))
    }

    #[cfg(not(target_endian = "little"))]
    fn map(mut file: &File, count: usize) -> io::Result<Self> {
        Ok(crate::values::read_values(&mut file, count)?.into())
    }

    /// Hands the memory that holds parts of a file back to the system, which reads them again when
    /// they are looked at.
    pub fn release(&self) {
        #[cfg(all(unix, target_endian = "little"))]
        if let Place::File { mapping, .. } = &self.0 {
            // SAFETY: the mapping is of a file and never written to, so nothing is lost.
            #[allow(unsafe_code)]
            let released = unsafe { mapping.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            if let Err(error) = released {
                tracing::debug!(%error, "the system keeps mapped weights in memory");
            }
        }
    }
}

impl From<Vec<f32>> for ModelWeights {
    fn from(values: Vec<f32>) -> Self {
        Self(Place::Memory(values))
    }
}

impl Deref for ModelWeights {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Place::Memory(values) => values,
            #[cfg(target_endian = "little")]
            Place::File { mapping, count } => {
                // SAFETY: the mapping begins at a page, has four bytes for each of `count` values
                // (`in_file` checked it), lives as long as `self`, and all bits make a value.
                #[allow(unsafe_code)]
                unsafe {
                    std::slice::from_raw_parts(mapping.as_ptr().cast(), *count)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_reads_as_its_values_even_after_it_is_released_and_deleted() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let values: Vec<f32> = (0..5000).map(|value| value as f32 / 16.0).collect();
        for value in &values {
            file.write_all(&value.to_le_bytes()).unwrap();
        }
        file.flush().unwrap();
        let weights = ModelWeights::in_file(file.as_file(), values.len()).unwrap();
        assert_eq!(*weights, values);
        weights.release();
        drop(file);
        assert_eq!(*weights, values);
        assert_eq!(*ModelWeights::from(values.clone()), values);
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0; 10]).unwrap();
        for count in [2, 3] {
            let refused = ModelWeights::in_file(file.as_file(), count).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        }
        file.as_file().set_len(0).unwrap();
        assert!(ModelWeights::in_file(file.as_file(), 0).unwrap().is_empty());
    }
}
