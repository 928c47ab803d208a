//! The optimiser's moments as bytes, so that a restarted node continues where it stopped.

use crate::engine::MomentVectors;
use crate::error::{Error, Result};

/// The first bytes of saved moments: format and version.
const MAGIC: &[u8; 8] = b"WEALADM1";

/// Bytes before the values: magic, number of parameters, number of updates.
const HEADER: usize = 24;

/// The optimiser's state between two rounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SavedMoments {
    /// Updates that the moments have seen, for their bias correction.
    pub updates: u64,
    pub vectors: MomentVectors,
}

impl SavedMoments {
    /// Encodes magic, parameters and updates as little-endian u64, then both moments as
    /// little-endian f32.
    pub(crate) fn to_bytes(updates: u64, first: &[f32], second: &[f32]) -> Vec<u8> {
        let parameters = first.len();
        let mut bytes = Vec::with_capacity(HEADER + (parameters + second.len()) * 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(parameters as u64).to_le_bytes());
        bytes.extend_from_slice(&updates.to_le_bytes());
        for value in first.iter().chain(second) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// Decodes what [`Self::to_bytes`] wrote for a model of `parameters` parameters, of which
    /// `seconds` have a second moment. Checks every length before allocating, and that the
    /// optimiser can continue from every value.
    pub(crate) fn from_bytes(bytes: &[u8], parameters: usize, seconds: usize) -> Result<Self> {
        let refuse = |reason: String| Err(Error::Moments(reason));
        let (header, values) = match bytes.split_at_checked(HEADER) {
            Some(parts) => parts,
            None => return refuse(format!("they end after {} bytes", bytes.len())),
        };
        if &header[..8] != MAGIC {
            return refuse("they were saved by another version".to_owned());
        }
        let number = |range: std::ops::Range<usize>| {
            header[range]
                .iter()
                .rev()
                .fold(0u64, |number, byte| (number << 8) | u64::from(*byte))
        };
        let (saved, updates) = (number(8..16), number(16..24));
        if saved != parameters as u64 {
            return refuse(format!(
                "they belong to a model of {saved} parameters, but this one has {parameters}"
            ));
        }
        let expected = (parameters + seconds) * 4;
        if values.len() != expected {
            return refuse(format!(
                "they hold {} bytes of values instead of {}",
                values.len(),
                expected
            ));
        }
        let (first, second) = values.split_at(parameters * 4);
        let saved = Self {
            updates,
            vectors: MomentVectors {
                first: floats(first),
                second: floats(second),
            },
        };
        check(&saved.vectors.first, &saved.vectors.second)?;
        Ok(saved)
    }
}

/// Checks that the optimiser can continue from every value.
pub(crate) fn check(first: &[f32], second: &[f32]) -> Result<()> {
    let refuse = |reason: &str| Err(Error::Moments(reason.to_owned()));
    if !first.iter().all(|value| value.is_finite()) {
        return refuse("a first moment is not finite");
    }
    if !second
        .iter()
        .all(|value| value.is_finite() && *value >= 0.0)
    {
        return refuse("a second moment is negative or not finite");
    }
    Ok(())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> SavedMoments {
        SavedMoments {
            updates: 7,
            vectors: MomentVectors {
                first: vec![-1.5, 2.0],
                second: vec![0.0, 4.0],
            },
        }
    }

    fn bytes() -> Vec<u8> {
        let SavedMoments { updates, vectors } = saved();
        SavedMoments::to_bytes(updates, &vectors.first, &vectors.second)
    }

    #[test]
    fn moments_round_trip() {
        assert_eq!(SavedMoments::from_bytes(&bytes(), 2, 2).unwrap(), saved());
    }

    #[test]
    fn short_long_foreign_or_damaged_bytes_are_refused_with_the_reason() {
        let good = bytes();
        let with = |index: usize, values: &[u8]| {
            let mut bytes = good.clone();
            bytes[index..index + values.len()].copy_from_slice(values);
            bytes
        };
        let cases = [
            (good[..10].to_vec(), 2, "end after 10 bytes"),
            (good[..good.len() - 1].to_vec(), 2, "bytes of values"),
            ([good.clone(), vec![0]].concat(), 2, "bytes of values"),
            (good.clone(), 3, "model of 2 parameters"),
            (with(7, b"9"), 2, "another version"),
            (with(HEADER, &f32::NAN.to_le_bytes()), 2, "first moment"),
            (with(HEADER + 8, &(-1f32).to_le_bytes()), 2, "second moment"),
        ];
        for (bytes, parameters, reason) in cases {
            let message = SavedMoments::from_bytes(&bytes, parameters, 2)
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(reason),
                "{message} should contain {reason}"
            );
        }
    }
}
