//! The moments of one tensor.

use std::io::{self, Read, Write};

use rayon::prelude::*;

use super::codes::{
    BLOCK, BLOCKS_AT_A_TIME, decode_first, decode_second, encode_first, encode_second, key_of,
    mixed, random, reciprocal,
};

/// The moments of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments8 {
    pub(super) first: Codes,
    /// Empty if the tensor has no second moment.
    pub(super) second: Codes,
}

/// Codes, and a scale for each block of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Codes {
    pub(super) codes: Vec<u8>,
    pub(super) scales: Vec<f32>,
}

impl Codes {
    fn zeros(count: usize) -> Self {
        Self {
            codes: vec![0; count],
            scales: vec![0.0; count.div_ceil(BLOCK)],
        }
    }

    /// The values that the codes stand for.
    fn values(&self, decode: impl Fn(u8, f32) -> f32 + Sync) -> Vec<f32> {
        let mut values = vec![0.0; self.codes.len()];
        let blocks = values
            .par_chunks_mut(BLOCK)
            .zip(self.codes.par_chunks(BLOCK));
        blocks
            .zip(&self.scales)
            .with_min_len(BLOCKS_AT_A_TIME)
            .for_each(|((values, codes), scale)| {
                let both = values.iter_mut().zip(codes);
                both.for_each(|(value, code)| *value = decode(*code, *scale));
            });
        values
    }

    /// Replaces all values. `encode` gets a value, the reciprocal of its block's scale, and a
    /// random number.
    fn set(&mut self, values: &[f32], seed: u64, encode: impl Fn(f32, f32, f32) -> u8 + Sync) {
        let key = mixed(seed);
        let blocks = self
            .codes
            .par_chunks_mut(BLOCK)
            .zip(values.par_chunks(BLOCK));
        blocks
            .zip(&mut self.scales)
            .enumerate()
            .with_min_len(BLOCKS_AT_A_TIME)
            .for_each(|(block, ((codes, values), scale))| {
                *scale = values.iter().fold(0.0, |most, value| value.abs().max(most));
                let inverse = reciprocal(*scale);
                let key = key_of(key, block);
                for (place, (code, value)) in codes.iter_mut().zip(values).enumerate() {
                    *code = encode(*value, inverse, random(key, place)[0]);
                }
            });
    }

    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        for scale in &self.scales {
            to.write_all(&scale.to_le_bytes())?;
        }
        to.write_all(&self.codes)
    }

    fn read(from: &mut dyn Read, count: usize) -> io::Result<Self> {
        let mut codes = Self::zeros(count);
        for scale in &mut codes.scales {
            let mut bytes = [0; 4];
            from.read_exact(&mut bytes)?;
            *scale = f32::from_le_bytes(bytes);
            if !scale.is_finite() || scale.is_sign_negative() {
                let reason = "a scale of the moments is negative or not finite";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
        from.read_exact(&mut codes.codes)?;
        Ok(codes)
    }
}

impl Moments8 {
    /// Moments of zero for `count` values, with a second moment or without.
    pub fn zeros(count: usize, has_second: bool) -> Self {
        Self {
            first: Codes::zeros(count),
            second: Codes::zeros(if has_second { count } else { 0 }),
        }
    }

    /// These moments, rounded. `second` is empty for a tensor that has none. `seed` draws how they
    /// are rounded.
    pub fn of(first: &[f32], second: &[f32], seed: u64) -> Self {
        let mut moments = Self {
            first: Codes::zeros(first.len()),
            second: Codes::zeros(second.len()),
        };
        moments.set_first(first, seed);
        moments.second.set(second, !seed, encode_second);
        moments
    }

    /// The first moments.
    pub fn first(&self) -> Vec<f32> {
        self.first.values(decode_first)
    }

    /// Replaces the first moments, rounded.
    ///
    /// # Panics
    /// If there are more or fewer than before.
    pub fn set_first(&mut self, first: &[f32], seed: u64) {
        assert_eq!(self.first.codes.len(), first.len(), "as many as before");
        self.first.set(first, seed, encode_first);
    }

    /// The second moments; empty if there are none.
    pub fn second(&self) -> Vec<f32> {
        self.second.values(decode_second)
    }

    /// Whether all of them are finite.
    pub fn are_finite(&self) -> bool {
        let mut scales = self.first.scales.iter().chain(&self.second.scales);
        scales.all(|scale| scale.is_finite())
    }

    /// Writes them: scales, then codes, of the first and then of the second moment.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        self.first.write(to)?;
        self.second.write(to)
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// Those of `from`, and [`io::ErrorKind::InvalidData`] if a scale is unusable.
    pub fn read(from: &mut dyn Read, count: usize, has_second: bool) -> io::Result<Self> {
        Ok(Self {
            first: Codes::read(from, count)?,
            second: Codes::read(from, if has_second { count } else { 0 })?,
        })
    }
}
