//! Messages: one canonical encoding each, decoded within limits.

use prost::Message as _;

use crate::error::DecodeError;
use crate::schema::Wire;

/// A message with an encoding of its own.
///
/// `decode` accepts exactly the byte strings that `encode` returns.
pub trait Message: Sized {
    /// Name of the message in errors.
    const NAME: &'static str;
    /// Limit on the encoding, checked before anything else.
    const MAX_BYTES: usize;

    /// Returns the canonical encoding.
    fn encode(&self) -> Vec<u8>;

    /// Decodes a canonical encoding.
    ///
    /// # Errors
    /// If there are too many bytes, or they do not follow the schema, break a limit, or are not
    /// canonical.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// Marks a message of the schema that is encoded on its own, not only within another.
pub(crate) trait Standalone: Wire {}

impl<T: Standalone> Message for T {
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
        // Protobuf can encode a value in many ways, but a hash must name exactly one byte string.
        if value.encode() == bytes {
            Ok(value)
        } else {
            Err(DecodeError::NotCanonical { message })
        }
    }
}
