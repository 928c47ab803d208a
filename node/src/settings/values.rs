//! Types of settings: values that may be left to the node, and amounts of memory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weal_trainer::{Precision, StatePlacement};

/// A setting that may be left to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auto<T> {
    /// The node chooses: `"auto"`.
    #[default]
    Auto,
    /// This value.
    Set(T),
}

impl<T: Copy> Auto<T> {
    /// The value, unless the choice is left to the node.
    pub fn set(&self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Set(value) => Some(*value),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Auto,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"auto\" or a value that this key accepts"
)]
enum Written<T> {
    Word(Word),
    Value(T),
}

impl<T: Serialize + Copy> Serialize for Auto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.set()
            .map_or(Written::Word(Word::Auto), Written::Value)
            .serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Word(Word::Auto) => Self::Auto,
            Written::Value(value) => Self::Set(value),
        })
    }
}

impl<T: FromStr> FromStr for Auto<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "auto" {
            Ok(Self::Auto)
        } else {
            text.parse().map(Self::Set)
        }
    }
}

/// Where f32 weights, gradient sums, optimiser moments and error feedback are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatesSetting {
    /// In the memory of the device that trains.
    Device,
    /// In the machine's memory.
    Host,
}

impl FromStr for StatesSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "device" => Ok(Self::Device),
            "host" => Ok(Self::Host),
            _ => Err("accepted: auto, device, host".to_owned()),
        }
    }
}

impl From<StatesSetting> for StatePlacement {
    fn from(states: StatesSetting) -> Self {
        match states {
            StatesSetting::Device => Self::Device,
            StatesSetting::Host => Self::Host,
        }
    }
}

/// Number format of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionSetting {
    /// IEEE single precision.
    F32,
    /// 16 bits, with the range of f32.
    Bf16,
}

impl FromStr for PrecisionSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err("accepted: auto, f32, bf16".to_owned()),
        }
    }
}

impl From<PrecisionSetting> for Precision {
    fn from(bits: PrecisionSetting) -> Self {
        match bits {
            PrecisionSetting::F32 => Self::F32,
            PrecisionSetting::Bf16 => Self::Bf16,
        }
    }
}

/// An amount of memory, written as `6 GB` or `512 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// Units. One that is a suffix of others comes after them.
const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is not an amount of memory; write it like \"6 GB\"");
        let (unit, factor) = UNITS
            .iter()
            .find(|(unit, _)| text.ends_with(unit))
            .ok_or_else(refuse)?;
        let number: f64 = text[..text.len() - unit.len()]
            .trim()
            .parse()
            .map_err(|_| refuse())?;
        if !(number > 0.0 && number * *factor as f64 <= 1e18) {
            return Err(refuse());
        }
        Ok(Self((number * *factor as f64) as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, factor): &&(&str, u64)| self.0.is_multiple_of(*factor);
        let (unit, factor) = UNITS
            .iter()
            .filter(exact)
            .max_by_key(|(_, factor)| *factor)
            .unwrap_or(&("B", 1));
        write!(formatter, "{} {unit}", self.0 / factor)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_parsed_and_printed() {
        for (text, bytes) in [
            ("6 GB", 6_000_000_000),
            ("512 MiB", 512 << 20),
            ("1 B", 1),
            ("8GiB", 8 << 30),
            ("1.5 kB", 1500),
        ] {
            let read: Bytes = text.parse().unwrap();
            assert_eq!(read, Bytes(bytes), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for wrong in ["", "6", "GB", "-1 GB", "0 GB", "many GB", "1e30 GB", "6 TB"] {
            let message = wrong.parse::<Bytes>().unwrap_err();
            assert!(message.contains("6 GB"), "{message}");
        }
    }

    #[test]
    fn auto_leaves_a_value_to_the_node() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            sequences: Auto<usize>,
            recompute: Auto<bool>,
            states: Auto<StatesSetting>,
        }
        let text = "sequences = 3\nrecompute = \"auto\"\nstates = \"host\"\n";
        let file: File = toml::from_str(text).unwrap();
        assert_eq!(
            file,
            File {
                sequences: Auto::Set(3),
                recompute: Auto::Auto,
                states: Auto::Set(StatesSetting::Host)
            }
        );
        assert_eq!(toml::to_string(&file).unwrap(), text);
        assert!(
            toml::from_str::<File>("sequences = \"many\"\nrecompute = true\nstates = \"auto\"\n")
                .is_err()
        );
        assert_eq!("auto".parse::<Auto<PrecisionSetting>>(), Ok(Auto::Auto));
        assert_eq!(
            "bf16".parse::<Auto<PrecisionSetting>>(),
            Ok(Auto::Set(PrecisionSetting::Bf16))
        );
        assert!(
            "f16"
                .parse::<Auto<PrecisionSetting>>()
                .unwrap_err()
                .contains("bf16")
        );
    }
}
