//! Hashes, keys and numbers: one type each, so that they cannot be confused.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::schema::Value;
use crate::shape::Form;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an id: expected 64 hexadecimal digits")]
pub struct ParseIdError(pub(crate) String);

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hexadecimal digits, for display.
            pub fn short(&self) -> String {
                hex::encode(self.0.get(..4).unwrap_or_default())
            }
        }

        impl $crate::schema::Value for $name {
            type Wire = Vec<u8>;
            const FORM: $crate::shape::Form = $crate::shape::Form::ID;

            fn to_field(&self) -> Vec<u8> {
                self.0.to_vec()
            }

            fn from_field(
                field: &'static str,
                wire: Vec<u8>,
            ) -> Result<Self, $crate::error::DecodeError> {
                match <[u8; 32]>::try_from(wire.as_slice()) {
                    Ok(bytes) => Ok(Self(bytes)),
                    Err(_) => Err($crate::error::DecodeError::WrongLength {
                        field,
                        bytes: wire.len(),
                        expected: 32,
                    }),
                }
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; 32] {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::ids::ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 32];
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) => Ok(Self(bytes)),
                    Err(_) => Err($crate::ids::ParseIdError(text.to_owned())),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use bytes32;

bytes32!(
    /// Hash of a message's payload: of what is said, whoever signs it.
    PayloadHash
);
bytes32!(
    /// Identifies a run: the hash of its manifest.
    RunId
);
bytes32!(
    /// Identifies a peer: its Ed25519 public key, which is also its libp2p identity.
    PeerId
);
bytes32!(
    /// Identifies a blob: the hash of its [`Outline`](crate::Outline).
    BlobHash
);
bytes32!(
    /// Identifies the weights of a model: one hash over all tensors, see `weal_kernels::state`.
    StateRoot
);
bytes32!(
    /// Identifies a tensor layout: the order, names and shapes of a model's tensors.
    LayoutHash
);
bytes32!(
    /// Identifies a signed message: the hash of its envelope.
    EnvelopeHash
);
bytes32!(
    /// Identifies what a round decided: the hash of its round set.
    RoundSetHash
);
bytes32!(
    /// Identifies a ledger: the hash of every peer's weight and standing.
    LedgerRoot
);
bytes32!(
    /// Identifies what decided rounds lead to: the hash of a
    /// [`ChainSnapshot`](crate::ChainSnapshot).
    SnapshotHash
);
bytes32!(
    /// The public randomness of a round.
    Seed
);

macro_rules! lists_of_ids {
    ($($name:ident),+) => {$(
        impl Value for Vec<$name> {
            type Wire = Vec<Vec<u8>>;
            const FORM: Form = Form::Ids;

            fn to_field(&self) -> Self::Wire {
                self.iter().map(Value::to_field).collect()
            }

            fn from_field(field: &'static str, wire: Self::Wire) -> Result<Self, DecodeError> {
                wire.into_iter()
                    .map(|id| $name::from_field(field, id))
                    .collect()
            }
        }
    )+};
}

lists_of_ids!(PeerId, BlobHash);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl Value for $name {
            type Wire = $inner;
            const FORM: Form = Form::Plain;

            fn to_field(&self) -> $inner {
                self.0
            }

            fn from_field(_: &'static str, wire: $inner) -> Result<Self, DecodeError> {
                Ok(Self(wire))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Number of a round, from 0.
    RoundNumber(u64)
);
number!(
    /// Number of an attempt to decide a round, from 0. Tendermint calls it a round.
    View(u32)
);
number!(
    /// A number of training sequences.
    Samples(u64)
);
number!(
    /// The weight of a vote.
    Weight(u64)
);

/// A place in a round: its holder may commit. Places are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u8);

impl SlotId {
    /// The place as an index into the round's list of places.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Value for SlotId {
    type Wire = u32;
    const FORM: Form = Form::Plain;

    fn to_field(&self) -> u32 {
        self.0.into()
    }

    fn from_field(field: &'static str, wire: u32) -> Result<Self, DecodeError> {
        let value = i64::from(wire);
        u8::try_from(wire)
            .map(Self)
            .map_err(|_| DecodeError::UnknownValue { field, value })
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl RoundNumber {
    /// The round after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The round before this one, or `None` for round 0.
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(round) => Some(Self(round)),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_parsed_from_its_text() {
        let id = RunId::from([0xab; 32]);
        assert_eq!(id.to_string().parse::<RunId>(), Ok(id));
        assert_eq!(id.short(), "abababab");
    }

    #[test]
    fn the_error_for_a_text_that_is_not_an_id_says_what_is_expected() {
        let error = "xyz".parse::<RunId>().unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
    }
}
