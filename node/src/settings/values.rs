//! Types of settings: values that may be left to the node, and names of choices.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weal_trainer::{ErrorFormat, MomentFormat, Precision, StatePlacement};

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
    /// IEEE half precision.
    F16,
    /// 16 bits, with the range of f32.
    Bf16,
}

impl FromStr for PrecisionSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err("accepted: auto, f32, f16, bf16".to_owned()),
        }
    }
}

impl From<PrecisionSetting> for Precision {
    fn from(bits: PrecisionSetting) -> Self {
        match bits {
            PrecisionSetting::F32 => Self::F32,
            PrecisionSetting::F16 => Self::F16,
            PrecisionSetting::Bf16 => Self::Bf16,
        }
    }
}

/// How the optimiser's moments are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MomentsSetting {
    /// IEEE single precision.
    F32,
    /// Eight bits each, with a scale for each block of them.
    #[serde(rename = "8bit")]
    Bits8,
}

impl FromStr for MomentsSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "8bit" => Ok(Self::Bits8),
            _ => Err("accepted: auto, f32, 8bit".to_owned()),
        }
    }
}

impl From<MomentsSetting> for MomentFormat {
    fn from(moments: MomentsSetting) -> Self {
        match moments {
            MomentsSetting::F32 => Self::F32,
            MomentsSetting::Bits8 => Self::Bits8,
        }
    }
}

/// How the error feedback is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorFeedbackSetting {
    /// IEEE single precision.
    F32,
    /// 16 bits, with the range of f32.
    Bf16,
}

impl FromStr for ErrorFeedbackSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err("accepted: auto, f32, bf16".to_owned()),
        }
    }
}

impl From<ErrorFeedbackSetting> for ErrorFormat {
    fn from(format: ErrorFeedbackSetting) -> Self {
        match format {
            ErrorFeedbackSetting::F32 => Self::F32,
            ErrorFeedbackSetting::Bf16 => Self::Bf16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            "8bit".parse::<Auto<MomentsSetting>>(),
            Ok(Auto::Set(MomentsSetting::Bits8))
        );
        let moments: toml::Table = toml::from_str("moments = \"8bit\"").unwrap();
        let moments: Auto<MomentsSetting> = moments["moments"].clone().try_into().unwrap();
        assert_eq!(
            moments.set().map(MomentFormat::from),
            Some(MomentFormat::Bits8)
        );
        assert!(
            "f8".parse::<Auto<PrecisionSetting>>()
                .unwrap_err()
                .contains("bf16")
        );
    }
}
