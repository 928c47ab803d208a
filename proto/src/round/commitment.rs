//! What a peer commits to before it reveals its contribution.

use crate::envelope::{Kind, Signable};
use crate::ids::{BlobHash, RoundNumber, Samples, StateRoot};
use crate::limits;
use crate::message::Standalone;
use crate::schema::message;

message! {
    /// "I have trained, and this is the hash of my contribution."
    ///
    /// Peers commit before anything is revealed, so that nobody can copy a contribution.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Commitment("commitment", limits::COMMITMENT_BYTES) {
        /// The round trained in.
        pub round: RoundNumber = 1,
        /// State root of the weights that the training started from.
        pub base_root: StateRoot = 2,
        /// Hash of the contribution's blob.
        pub blob: BlobHash = 3,
        /// Length of the blob in bytes.
        pub blob_bytes: u64 = 4,
        /// Number of sequences trained on: samples `0..samples` of the peer's stream.
        pub samples: Samples = 5,
    }
}

impl Standalone for Commitment {}

impl Signable for Commitment {
    const KIND: Kind = Kind::Commitment;
}
