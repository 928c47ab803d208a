//! Amounts of bytes, in the forms in which people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of memory, such as `6 GB`, `512 MiB`, `2g` or a bare number of bytes. It is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// An amount that may be 0, in the same forms, or a speed in bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteCount(pub u64);

/// Units as they are printed.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// The most that is accepted.
const MOST: f64 = 1e18;

/// Reads a number with a unit or without. `k`, `m`, `g`, `t` and `Ki`, `Mi`, … are powers of 1,024,
/// as Docker, systemd and Kubernetes have it; `kB`, `MB`, … are powers of 1,000. Case does not
/// matter.
fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    // An exponent such as 2e9 belongs to the number.
    let is_unit = |c: char| c.is_ascii_alphabetic();
    let number = text.trim_end_matches(is_unit);
    let factor = factor(&text[number.len()..].to_ascii_lowercase())?;
    let number = number.trim_end().replace('_', "");
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Ok(whole) = number.parse::<u64>() {
        let bytes = whole.checked_mul(factor)?;
        return (bytes as f64 <= MOST).then_some(bytes);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (bytes <= MOST).then_some(bytes as u64)
}

fn factor(unit: &str) -> Option<u64> {
    let decimal = UNITS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(unit));
    let binary = || match unit {
        "k" | "ki" => Some(1 << 10),
        "m" | "mi" => Some(1 << 20),
        "g" | "gi" => Some(1 << 30),
        "t" | "ti" => Some(1 << 40),
        "" | "byte" | "bytes" => Some(1),
        _ => None,
    };
    decimal.map(|(_, factor)| *factor).or_else(binary)
}

fn show(bytes: u64, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let exact = |(_, factor): &&(&str, u64)| bytes.is_multiple_of(*factor);
    let (unit, factor) = UNITS
        .iter()
        .filter(exact)
        .max_by_key(|(_, factor)| *factor)
        .unwrap_or(&("B", 1));
    write!(formatter, "{} {unit}", bytes / factor)
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).filter(|bytes| *bytes > 0).map(Self).ok_or_else(|| {
            format!("{text:?} is not an amount of memory; write it like \"6 GB\", \"512 MiB\" or \"2g\"")
        })
    }
}

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let amount = text.trim().strip_suffix("/s").unwrap_or(text);
        parse(amount).map(Self).ok_or_else(|| {
            format!("{text:?} is not a number of bytes; write it like \"2 MB\", \"500k\" or 0")
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0, formatter)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// A number or a text, as TOML has them.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected an amount such as \"6 GB\", or a number of bytes"
)]
enum Written {
    Number(u64),
    Text(String),
}

impl Written {
    fn parse<T: FromStr<Err = String>>(self) -> Result<T, String> {
        match self {
            Self::Number(number) => number.to_string().parse(),
            Self::Text(text) => text.parse(),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("6 GB", 6_000_000_000),
            ("512 MiB", 512 << 20),
            ("1 B", 1),
            ("8GiB", 8 << 30),
            ("1.5 kB", 1500),
            ("2g", 2 << 30),
            ("2G", 2 << 30),
            ("2Gi", 2 << 30),
            ("2gb", 2_000_000_000),
            ("512m", 512 << 20),
            ("0.5g", 1 << 29),
            ("6 TB", 6_000_000_000_000),
            ("2147483648", 1 << 31),
            ("2_000_000", 2_000_000),
            (" 4 gib ", 4 << 30),
            ("100 bytes", 100),
        ] {
            let read: Bytes = text.parse().unwrap();
            assert_eq!(read, Bytes(bytes), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for wrong in [
            "", "GB", "-1 GB", "0 GB", "0", "many GB", "1e30 GB", "6 PB", "6 G B", "NaN", "inf",
            "1 2",
        ] {
            let message = wrong.parse::<Bytes>().unwrap_err();
            assert!(message.contains("6 GB"), "{message}");
        }
    }

    #[test]
    fn a_speed_may_be_unlimited() {
        for (text, rate) in [
            ("0", 0),
            ("500000", 500_000),
            ("2 MB/s", 2_000_000),
            ("500k", 512_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(rate)), "{text}");
        }
        assert!("fast".parse::<ByteCount>().is_err());
    }

    #[test]
    fn toml_may_hold_a_number_or_a_text() {
        #[derive(Deserialize)]
        struct File {
            memory: Bytes,
            upload: ByteCount,
        }
        let file: File = toml::from_str("memory = 2000000\nupload = \"1 MB\"").unwrap();
        assert_eq!(
            (file.memory, file.upload),
            (Bytes(2_000_000), ByteCount(1_000_000))
        );
        assert!(toml::from_str::<File>("memory = 0\nupload = 1").is_err());
        assert!(toml::from_str::<File>("memory = 1\nupload = -1").is_err());
    }
}
