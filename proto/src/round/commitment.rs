//! What a peer commits to before it reveals its contribution.

use crate::envelope::{Kind, Signable};
use crate::error::DecodeError;
use crate::ids::{BlobHash, RoundNumber, Samples, StateRoot};
use crate::limits;
use crate::message::Standalone;
use crate::schema::{message, rising};

message! {
    /// Samples `first .. first + count` of those that a round dealt to the peer.
    ///
    /// A span names the round that dealt its samples, so that training may one day go on while that
    /// round is agreed on. The rules of this version accept one span, of the commitment's own
    /// round.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SampleSpan("sample span", 40) {
        /// The round whose seed and history dealt the samples.
        pub seed_round: RoundNumber = 1,
        /// Number of the first sample.
        pub first: u64 = 2,
        /// Number of samples.
        pub count: u64 = 3,
    }
}

message! {
    /// "I have trained, and this is the hash of my contribution."
    ///
    /// Peers commit before anything is revealed, so that nobody can copy a contribution.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Commitment("commitment", limits::COMMITMENT_BYTES, sorted) {
        /// The round trained in.
        pub round: RoundNumber = 1,
        /// State root of the weights that the training started from.
        pub base_root: StateRoot = 2,
        /// Hash of the contribution's blob.
        pub blob: BlobHash = 3,
        /// Length of the blob in bytes.
        pub blob_bytes: u64 = 4,
        /// The samples trained on, strictly rising by round and first sample.
        pub spans: Vec<SampleSpan> = 5[limits::SPANS],
    }
}

fn sorted(commitment: &Commitment) -> Result<(), DecodeError> {
    rising("Commitment.spans", &commitment.spans, |span| {
        (span.seed_round, span.first)
    })
}

impl Commitment {
    /// Number of sequences trained on.
    pub fn samples(&self) -> Samples {
        let counts = self.spans.iter().map(|span| span.count);
        Samples(counts.fold(0, u64::saturating_add))
    }
}

impl Standalone for Commitment {}

impl Signable for Commitment {
    const KIND: Kind = Kind::Commitment;
}
