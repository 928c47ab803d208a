//! What peers tell each other about blobs.
//!
//! ```text
//! frame = length: u32 LE ‖ kind: u8 ‖ blob: [u8; 32] ‖ body
//! ```

use weal_proto::limits::BLOB_CHUNKS;
use weal_proto::{BlobHash, Outline};

use super::bits::Bits;

/// The longest frame in bytes, without its length: an outline.
pub(crate) const MAX_FRAME: usize = HEAD + 8 + 32 * BLOB_CHUNKS;
/// Kind and blob.
const HEAD: usize = 33;

/// How urgently a peer needs a blob. The first is the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A decided round cannot be applied without it.
    Apply,
    /// A contribution of the running round, to be examined.
    Examine,
    /// Weights, for a peer that is behind.
    State,
    /// Data of the run.
    Data,
}

impl Priority {
    const ALL: [Self; 4] = [Self::Apply, Self::Examine, Self::State, Self::Data];
}

/// A message about one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub blob: BlobHash,
    pub body: Body,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// "I need this blob", and whether its outline too. Holds until [`Body::Drop`]: a peer that
    /// gets the blob later says so then.
    Ask { outline: bool },
    /// The outline, for a peer that asked for it.
    Outline(Outline),
    /// "I have pieces of it, or will have: tell me what you want."
    Here,
    /// "I have nothing of it."
    NotHere,
    /// "I have it, but may not send it yet. Ask again after this many milliseconds."
    NotYet { milliseconds: u32 },
    /// "Send me any of these pieces, in the order that you think best." Replaces the set before.
    Want { priority: Priority, pieces: Bits },
    /// "I no longer want this piece": it is on its way from another peer.
    Cancel { piece: u32 },
    /// "I need nothing more of it."
    Drop,
}

impl Frame {
    /// The bytes of the frame, without their length.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + 8);
        bytes.push(self.body.kind());
        bytes.extend(self.blob.as_bytes());
        match &self.body {
            Body::Ask { outline } => bytes.push(u8::from(*outline)),
            Body::Outline(outline) => {
                bytes.extend(outline.bytes.to_le_bytes());
                bytes.extend(outline.chunks.as_flattened());
            }
            Body::NotYet { milliseconds } => bytes.extend(milliseconds.to_le_bytes()),
            Body::Want { priority, pieces } => {
                bytes.push(*priority as u8);
                bytes.extend(pieces.pieces().to_le_bytes());
                bytes.extend(pieces.as_bytes());
            }
            Body::Cancel { piece } => bytes.extend(piece.to_le_bytes()),
            Body::Here | Body::NotHere | Body::Drop => {}
        }
        bytes
    }

    /// Reads a frame that a stranger sent. `None` if [`Self::encode`] does not write it so.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (blob, rest) = rest.split_first_chunk::<32>()?;
        let body = match (kind, rest) {
            (0, [outline @ (0 | 1)]) => Body::Ask {
                outline: *outline == 1,
            },
            (1, rest) => Body::Outline(outline(rest)?),
            (2, []) => Body::Here,
            (3, []) => Body::NotHere,
            (4, rest) => Body::NotYet {
                milliseconds: number(rest)?,
            },
            (5, [priority, rest @ ..]) => {
                let (pieces, bits) = rest.split_first_chunk::<4>()?;
                Body::Want {
                    priority: *Priority::ALL.get(usize::from(*priority))?,
                    pieces: Bits::from_bytes(u32::from_le_bytes(*pieces), bits)?,
                }
            }
            (6, rest) => Body::Cancel {
                piece: number(rest)?,
            },
            (7, []) => Body::Drop,
            _ => return None,
        };
        let blob = (*blob).into();
        Some(Self { blob, body })
    }
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Self::Ask { .. } => 0,
            Self::Outline(_) => 1,
            Self::Here => 2,
            Self::NotHere => 3,
            Self::NotYet { .. } => 4,
            Self::Want { .. } => 5,
            Self::Cancel { .. } => 6,
            Self::Drop => 7,
        }
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_le_bytes)
}

/// An outline whose number of chunks follows from its length. Whether it is that of the blob is for
/// the reader of the frame to check.
fn outline(bytes: &[u8]) -> Option<Outline> {
    let (length, hashes) = bytes.split_first_chunk::<8>()?;
    let (chunks, rest) = hashes.as_chunks::<32>();
    let length = u64::from_le_bytes(*length);
    let fits = rest.is_empty()
        && chunks.len() <= BLOB_CHUNKS
        && chunks.len() as u64 == Outline::chunk_count(length);
    fits.then(|| Outline {
        bytes: length,
        chunks: chunks.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body() -> impl Strategy<Value = Body> {
        let bits = prop::collection::vec(any::<bool>(), 0..40).prop_map(|set| {
            let mut bits = Bits::none(set.len() as u32);
            for (piece, to) in set.into_iter().enumerate() {
                bits.set(piece as u32, to);
            }
            bits
        });
        let blob = prop::collection::vec(any::<u8>(), 0..100);
        prop_oneof![
            any::<bool>().prop_map(|outline| Body::Ask { outline }),
            blob.prop_map(|blob| Body::Outline(Outline::of(&blob))),
            Just(Body::Here),
            Just(Body::NotHere),
            any::<u32>().prop_map(|milliseconds| Body::NotYet { milliseconds }),
            (prop::sample::select(Priority::ALL.to_vec()), bits)
                .prop_map(|(priority, pieces)| Body::Want { priority, pieces }),
            any::<u32>().prop_map(|piece| Body::Cancel { piece }),
            Just(Body::Drop),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_is_read_as_written_and_in_no_other_way(
            body in body(),
            blob: [u8; 32],
            more: u8,
        ) {
            let frame = Frame { blob: blob.into(), body };
            let mut bytes = frame.encode();
            prop_assert!(bytes.len() <= MAX_FRAME);
            prop_assert_eq!(Frame::decode(&bytes), Some(frame));
            bytes.push(more);
            if let Some(other) = Frame::decode(&bytes) {
                prop_assert_eq!(other.encode(), bytes);
            }
        }

        #[test]
        fn nonsense_is_refused_or_written_as_it_was_read(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            if let Some(frame) = Frame::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }

    #[test]
    fn the_longest_frame_is_an_outline() {
        let longest = Outline {
            bytes: (BLOB_CHUNKS as u64) << 20,
            chunks: vec![[1; 32]; BLOB_CHUNKS],
        };
        let frame = |body| Frame {
            blob: [0; 32].into(),
            body,
        };
        let bytes = frame(Body::Outline(longest)).encode();
        assert_eq!(bytes.len(), MAX_FRAME);
        assert!(Frame::decode(&bytes).is_some());
        let pieces = Bits::all(BLOB_CHUNKS as u32);
        let priority = Priority::Data;
        assert!(frame(Body::Want { priority, pieces }).encode().len() < MAX_FRAME);
    }
}
