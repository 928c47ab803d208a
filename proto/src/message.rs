//! The trait every message has: one canonical encoding, decoded within limits.

use prost::Message as _;

use crate::error::DecodeError;
use crate::shape::Shape;

/// A message of the schema.
///
/// `decode` accepts exactly the byte strings that `encode` makes.
pub trait Message: Sized {
    /// What it is called in errors.
    const NAME: &'static str;
    /// More bytes than this are refused before anything else is looked at.
    const MAX_BYTES: usize;

    /// The canonical encoding.
    fn encode(&self) -> Vec<u8>;

    /// Reads a canonical encoding.
    ///
    /// # Errors
    /// When the bytes are too many, are not the schema's, break a limit, or are not canonical.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// How a message maps to the struct that prost made of the schema.
pub(crate) trait Wire: Sized {
    type Wire: prost::Message + Default;
    /// Its name and its limits, checked before prost sees the bytes.
    const SHAPE: Shape;

    fn to_wire(&self) -> Self::Wire;
    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError>;
}

impl<T: Wire> Message for T {
    const NAME: &'static str = T::SHAPE.name;
    const MAX_BYTES: usize = T::SHAPE.most_bytes;

    fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = T::SHAPE.name;
        T::SHAPE.check(bytes)?;
        let wire = T::Wire::decode(bytes).map_err(|cause| DecodeError::Malformed {
            message,
            cause: cause.to_string(),
        })?;
        let value = T::from_wire(wire)?;
        // Protobuf lets one value be written in many ways; a hash must name exactly one.
        if value.encode() == bytes {
            Ok(value)
        } else {
            Err(DecodeError::NotCanonical { message })
        }
    }
}

/// Reads every entry of a list; how many there are, the shape has checked.
pub(crate) fn list<W, T>(
    wire: Vec<W>,
    read: impl FnMut(W) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    wire.into_iter().map(read).collect()
}

/// Refuses a list whose keys do not strictly rise: this forbids duplicates and a second order of
/// the same list.
pub(crate) fn rising<T, K: Ord>(
    field: &'static str,
    list: Vec<T>,
    key: impl Fn(&T) -> K,
) -> Result<Vec<T>, DecodeError> {
    if list.is_sorted_by(|a, b| key(a) < key(b)) {
        Ok(list)
    } else {
        Err(DecodeError::NotSorted { field })
    }
}

/// A field that must be there.
pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { field })
}
