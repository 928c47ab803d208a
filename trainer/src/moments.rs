//! The optimiser's moments as bytes, so that a restarted node continues where it stopped.
//!
//! A header, then tensor by tensor, in the layout's order, what the optimiser has: both moments in
//! f32, or in eight bits. They are written and read one tensor at a time, because a second copy of
//! them all would be the largest thing in memory.

use std::io::{self, Read, Write};

use weal_kernels::moments8::Moments8;

use crate::compute_plan::MomentFormat;
use crate::engine::{MomentsRef, TensorMoments};
use crate::error::{Error, Result};
use crate::values::{read_values, write_values};

/// The first bytes of saved moments: format and version.
const MAGIC: &[u8; 8] = b"WEALADM2";

/// What is known about saved moments before the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MomentsHeader {
    /// Parameters of the model.
    pub parameters: u64,
    /// Updates that the moments have seen, for their bias correction.
    pub updates: u64,
    /// How they were kept; `None` before the first update, when all are zero and none are saved.
    pub format: Option<MomentFormat>,
}

impl MomentsHeader {
    /// Writes magic, parameters, updates and format, as little-endian u64.
    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let format = match self.format {
            None => 0,
            Some(MomentFormat::F32) => 1,
            Some(MomentFormat::Bits8) => 2,
        };
        to.write_all(MAGIC)?;
        for number in [self.parameters, self.updates, format] {
            to.write_all(&number.to_le_bytes())?;
        }
        Ok(())
    }

    /// Reads the header of moments for a model of `parameters` parameters.
    pub(crate) fn read(from: &mut dyn Read, parameters: usize) -> Result<Self> {
        let refuse = |reason: String| Err(Error::Moments(reason));
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic).map_err(ended)?;
        if magic != *MAGIC {
            return refuse("they were saved by another version".to_owned());
        }
        let mut number = || {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes).map_err(ended)?;
            Ok::<_, Error>(u64::from_le_bytes(bytes))
        };
        let (saved, updates, format) = (number()?, number()?, number()?);
        if saved != parameters as u64 {
            return refuse(format!(
                "they belong to a model of {saved} parameters, but this one has {parameters}"
            ));
        }
        let format = match format {
            0 => None,
            1 => Some(MomentFormat::F32),
            2 => Some(MomentFormat::Bits8),
            other => return refuse(format!("their format {other} is unknown")),
        };
        Ok(Self {
            parameters: saved,
            updates,
            format,
        })
    }
}

/// Writes one tensor's moments.
pub(crate) fn write_tensor(moments: MomentsRef<'_>, to: &mut dyn Write) -> io::Result<()> {
    match moments {
        MomentsRef::Full { first, second } => {
            write_values(first, to)?;
            write_values(second, to)
        }
        MomentsRef::Short(moments) => moments.write(to),
    }
}

/// Reads one tensor's moments, of `count` values, and checks that the optimiser can continue from
/// them.
pub(crate) fn read_tensor(
    from: &mut dyn Read,
    format: MomentFormat,
    count: usize,
    has_second: bool,
) -> Result<TensorMoments> {
    let moments = match format {
        MomentFormat::F32 => TensorMoments::Full {
            first: read_values(from, count).map_err(ended)?,
            second: read_values(from, if has_second { count } else { 0 }).map_err(ended)?,
        },
        MomentFormat::Bits8 => {
            TensorMoments::Short(Moments8::read(from, count, has_second).map_err(ended)?)
        }
    };
    moments.borrowed().check()?;
    Ok(moments)
}

fn ended(error: io::Error) -> Error {
    Error::Moments(match error.kind() {
        io::ErrorKind::UnexpectedEof => "they end too early".to_owned(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: MomentsHeader = MomentsHeader {
        parameters: 2,
        updates: 7,
        format: Some(MomentFormat::F32),
    };

    fn saved() -> TensorMoments {
        TensorMoments::Full {
            first: vec![-1.5, 2.0],
            second: vec![0.0, 4.0],
        }
    }

    fn bytes() -> Vec<u8> {
        let mut bytes = Vec::new();
        HEADER.write(&mut bytes).unwrap();
        write_tensor(saved().borrowed(), &mut bytes).unwrap();
        bytes
    }

    fn read(mut bytes: &[u8], parameters: usize) -> Result<(MomentsHeader, TensorMoments)> {
        let header = MomentsHeader::read(&mut bytes, parameters)?;
        let format = header.format.unwrap();
        Ok((header, read_tensor(&mut bytes, format, parameters, true)?))
    }

    #[test]
    fn moments_round_trip() {
        assert_eq!(read(&bytes(), 2).unwrap(), (HEADER, saved()));
        let short = TensorMoments::Short(Moments8::of(&[-1.5, 2.0], &[0.0, 4.0], 1));
        let mut bytes = Vec::new();
        write_tensor(short.borrowed(), &mut bytes).unwrap();
        let read = read_tensor(&mut &bytes[..], MomentFormat::Bits8, 2, true);
        assert_eq!(read.unwrap(), short);
    }

    #[test]
    fn short_foreign_or_damaged_bytes_are_refused_with_the_reason() {
        let good = bytes();
        let with = |index: usize, values: &[u8]| {
            let mut bytes = good.clone();
            bytes[index..index + values.len()].copy_from_slice(values);
            bytes
        };
        let values = 32;
        let cases = [
            (good[..10].to_vec(), 2, "end too early"),
            (good[..good.len() - 1].to_vec(), 2, "end too early"),
            (good.clone(), 3, "model of 2 parameters"),
            (with(7, b"9"), 2, "another version"),
            (with(24, &[9]), 2, "format 9 is unknown"),
            (with(values, &f32::NAN.to_le_bytes()), 2, "first moment"),
            (with(values + 8, &(-1f32).to_le_bytes()), 2, "second moment"),
        ];
        for (bytes, parameters, reason) in cases {
            let message = read(&bytes, parameters).unwrap_err().to_string();
            assert!(
                message.contains(reason),
                "{message} should contain {reason}"
            );
        }
    }
}
