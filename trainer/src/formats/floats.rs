//! Weights as bytes, in three formats.

use std::fmt;
use std::str::FromStr;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;

/// The format of a weight on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatFormat {
    /// Four bytes, lossless.
    F32,
    /// Two bytes, eleven bits of precision, up to 65,504.
    F16,
    /// Two bytes, eight bits of precision, the range of f32.
    Bf16,
}

impl FloatFormat {
    /// Bytes of one value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The name in `config.json`.
    pub(super) const fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    pub(super) const fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    pub(super) const fn of_dtype(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Whether a finite value stays finite in this format.
    pub(super) fn holds(self, value: f32) -> bool {
        match self {
            Self::F32 => true,
            Self::F16 => f16::from_f32(value).is_finite(),
            Self::Bf16 => bf16::from_f32(value).is_finite(),
        }
    }

    /// Encodes values as little-endian bytes, rounding to nearest, ties to even.
    pub(super) fn to_bytes(self, values: &[f32]) -> Vec<u8> {
        let two_bytes = |convert: &dyn Fn(f32) -> u16| {
            values
                .iter()
                .flat_map(|value| convert(*value).to_le_bytes())
                .collect::<Vec<u8>>()
        };
        match self {
            Self::F32 => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Self::F16 => two_bytes(&|value| f16::from_f32(value).to_bits()),
            Self::Bf16 => two_bytes(&|value| bf16::from_f32(value).to_bits()),
        }
    }

    /// Decodes little-endian bytes into `values`.
    pub(super) fn read(self, bytes: &[u8], values: &mut [f32]) {
        let words = || {
            bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| u16::from_le_bytes(*pair))
        };
        match self {
            Self::F32 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => words()
                .map(f16::from_bits)
                .collect::<Vec<_>>()
                .convert_to_f32_slice(values),
            Self::Bf16 => words()
                .map(bf16::from_bits)
                .collect::<Vec<_>>()
                .convert_to_f32_slice(values),
        }
    }
}

impl fmt::Display for FloatFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for FloatFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err("expected f32, f16 or bf16".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_within_the_formats_precision() {
        let values = [0.0, -0.0, 1.0, -2.5, 3.140_625, 1e-3, 65_504.0, 1.0e-7];
        for (format, precision) in [
            (FloatFormat::F32, 0.0),
            (FloatFormat::F16, 4.9e-4),
            (FloatFormat::Bf16, 4e-3),
        ] {
            let bytes = format.to_bytes(&values);
            assert_eq!(bytes.len(), values.len() * format.bytes());
            let mut read = [f32::NAN; 8];
            format.read(&bytes, &mut read);
            for (value, read) in values.iter().zip(read) {
                let subnormal = if format == FloatFormat::F16 {
                    3e-8
                } else {
                    0.0
                };
                assert!(
                    (value - read).abs() <= value.abs() * precision + subnormal,
                    "{format}: {value} became {read}"
                );
            }
            assert_eq!(format.to_string().parse(), Ok(format));
            assert_eq!(FloatFormat::of_dtype(format.dtype()), Some(format));
        }
    }

    #[test]
    fn a_format_knows_what_it_cannot_hold() {
        assert!(FloatFormat::F16.holds(65_519.0) && !FloatFormat::F16.holds(65_520.0));
        assert!(FloatFormat::Bf16.holds(3.0e38) && !FloatFormat::Bf16.holds(f32::MAX));
        assert!(FloatFormat::F32.holds(f32::MAX));
    }
}
