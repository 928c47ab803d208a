//! Sets of places, and what binds them to commitments.

use crate::error::DecodeError;
use crate::ids::{PayloadHash, SlotId, bytes32};
use crate::limits;
use crate::schema::Value;
use crate::shape::Form;

/// BLAKE3 context under which a list of places and commitments is hashed.
const LIST_CONTEXT: &str = "commonweal list v2";

bytes32!(
    /// Hash of a list of places, each with the hash of its commitment's payload.
    ListHash
);

impl ListHash {
    /// The hash of a list, in the order given: each place as one byte, then the commitment's hash.
    pub fn of(list: impl IntoIterator<Item = (SlotId, PayloadHash)>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(LIST_CONTEXT);
        for (slot, commitment) in list {
            hasher.update(&[slot.0]).update(commitment.as_bytes());
        }
        Self::from(*hasher.finalize().as_bytes())
    }
}

/// A set of places: bit i of byte k is place 8k + i, without zero bytes at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaceSet(Vec<u8>);

impl PlaceSet {
    /// Whether the set holds a place.
    pub fn contains(&self, slot: SlotId) -> bool {
        let (byte, bit) = (slot.index() / 8, slot.0 % 8);
        self.0.get(byte).is_some_and(|byte| byte >> bit & 1 == 1)
    }

    /// The places, rising.
    pub fn iter(&self) -> impl Iterator<Item = SlotId> + '_ {
        (0..=u8::MAX)
            .map(SlotId)
            .filter(|slot| self.contains(*slot))
    }

    /// Whether no place is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of places in the set.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    fn insert(&mut self, slot: SlotId) {
        let (byte, bit) = (slot.index() / 8, slot.0 % 8);
        if self.0.len() <= byte {
            self.0.resize(byte.saturating_add(1), 0);
        }
        if let Some(byte) = self.0.get_mut(byte) {
            *byte |= 1 << bit;
        }
    }
}

impl FromIterator<SlotId> for PlaceSet {
    fn from_iter<I: IntoIterator<Item = SlotId>>(slots: I) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

impl Value for PlaceSet {
    type Wire = Vec<u8>;
    const FORM: Form = Form::Plain;

    fn to_field(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn from_field(field: &'static str, wire: Vec<u8>) -> Result<Self, DecodeError> {
        if wire.len() > limits::SLOTS / 8 || wire.last() == Some(&0) {
            return Err(DecodeError::WrongLength {
                field,
                bytes: wire.len(),
                expected: wire
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |last| last + 1),
            });
        }
        Ok(Self(wire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let slots = [0, 7, 8, 63, 255].map(SlotId);
        let set: PlaceSet = slots.into_iter().collect();
        assert!(set.iter().eq(slots));
        assert_eq!((set.len(), set.contains(SlotId(9))), (5, false));
        assert_eq!(PlaceSet::from_field("set", set.to_field()), Ok(set));
    }

    #[test]
    fn a_second_encoding_of_the_same_set_is_refused() {
        assert!(PlaceSet::from_field("set", vec![1, 0]).is_err());
        assert!(PlaceSet::from_field("set", vec![1; 33]).is_err());
    }
}
