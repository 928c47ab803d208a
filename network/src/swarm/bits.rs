//! A set of pieces of one blob: one bit for each piece.

use weal_proto::limits::BLOB_CHUNKS;

/// Pieces of a blob, as a bit map. Piece 0 is the lowest bit of the first byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    pieces: u32,
}

impl Bits {
    /// No piece of a blob of this many pieces.
    pub(crate) fn none(pieces: u32) -> Self {
        Self {
            bytes: vec![0; pieces.div_ceil(8) as usize],
            pieces,
        }
    }

    /// Every piece.
    pub(crate) fn all(pieces: u32) -> Self {
        let mut all = Self::none(pieces);
        (0..pieces).for_each(|piece| all.set(piece, true));
        all
    }

    /// Reads a set as a stranger sent it. `None` if it is not the bytes that [`Self::as_bytes`]
    /// gives, or if no blob has that many pieces.
    pub(crate) fn from_bytes(pieces: u32, bytes: &[u8]) -> Option<Self> {
        if pieces as usize > BLOB_CHUNKS || bytes.len() != pieces.div_ceil(8) as usize {
            return None;
        }
        let beyond = pieces % 8;
        let rest_is_clear = beyond == 0
            || bytes
                .last()
                .is_none_or(|last| last.unbounded_shr(beyond) == 0);
        rest_is_clear.then(|| Self {
            bytes: bytes.to_vec(),
            pieces,
        })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of pieces of the blob, here or not.
    pub(crate) fn pieces(&self) -> u32 {
        self.pieces
    }

    pub(crate) fn has(&self, piece: u32) -> bool {
        let byte = self.bytes.get((piece / 8) as usize);
        piece < self.pieces && byte.is_some_and(|byte| (byte >> (piece % 8)) & 1 == 1)
    }

    /// Adds or removes a piece. Pieces that the blob does not have are ignored.
    pub(crate) fn set(&mut self, piece: u32, to: bool) {
        if piece >= self.pieces {
            return;
        }
        if let Some(byte) = self.bytes.get_mut((piece / 8) as usize) {
            let bit = 1 << (piece % 8);
            *byte = if to { *byte | bit } else { *byte & !bit };
        }
    }

    /// Number of pieces in the set.
    pub(crate) fn count(&self) -> u32 {
        self.bytes.iter().map(|byte| byte.count_ones()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.count() == self.pieces
    }

    /// The pieces that are not in the set.
    pub(crate) fn complement(&self) -> Self {
        let mut rest = Self::none(self.pieces);
        (0..self.pieces).for_each(|piece| rest.set(piece, !self.has(piece)));
        rest
    }

    /// Pieces in both sets, in order. Nothing if the sets are not of the same blob.
    pub(crate) fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let same = self.pieces == other.pieces;
        let bytes = self.bytes.iter().zip(&other.bytes).map(|(a, b)| a & b);
        let places = bytes.zip((0u32..).step_by(8)).filter(move |_| same);
        places
            .filter(|(byte, _)| *byte != 0)
            .flat_map(|(byte, first)| {
                let bits = (0..8).filter(move |bit| (byte >> bit) & 1 == 1);
                bits.map(move |bit| first + bit)
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_a_set(
            pieces in 0u32..70,
            changes in prop::collection::vec((0u32..80, any::<bool>()), 0..60),
        ) {
            let (mut bits, mut model) = (Bits::none(pieces), BTreeSet::new());
            for (piece, to) in changes {
                bits.set(piece, to);
                if to && piece < pieces {
                    model.insert(piece);
                } else {
                    model.remove(&piece);
                }
            }
            prop_assert_eq!(bits.count() as usize, model.len());
            prop_assert_eq!(bits.is_empty(), model.is_empty());
            let all = Bits::all(pieces);
            prop_assert_eq!(all.common(&bits).collect::<BTreeSet<_>>(), model);
            prop_assert!(bits.complement().common(&bits).next().is_none());
            prop_assert_eq!(bits.complement().count() + bits.count(), pieces);
            let read = Bits::from_bytes(pieces, bits.as_bytes());
            prop_assert_eq!(read, Some(bits));
        }
    }

    #[test]
    fn bytes_that_no_set_gives_are_refused() {
        assert_eq!(Bits::from_bytes(9, &[0]), None);
        assert_eq!(Bits::from_bytes(9, &[0, 2]), None);
        assert_eq!(Bits::from_bytes(9, &[0, 1]).unwrap().count(), 1);
        assert!(Bits::from_bytes(0, &[]).unwrap().is_complete());
        let most = BLOB_CHUNKS as u32;
        assert!(Bits::from_bytes(most + 8, &vec![0; most as usize / 8 + 1]).is_none());
    }

    #[test]
    fn sets_of_other_blobs_have_nothing_in_common() {
        assert_eq!(Bits::all(8).common(&Bits::all(9)).next(), None);
    }
}
