//! What happened: everything the rules ever learn about the world.

use weal_proto::{
    BlobHash, Decided, Envelope, EnvelopeHash, PeerId, RoundNumber, Samples, StateRoot, Status,
    Verdict,
};

use crate::interface::output::TimerId;

/// Names a received message towards the caller, who may choose it freely: it comes back in
/// [`Output::Verdict`](crate::Output::Verdict) and means nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The caller is up: said once, before anything else.
    Start,
    /// The weights at a round's start are in memory. Said after start, after each
    /// [`Output::Apply`](crate::Output::Apply) (for the round after it), and after
    /// [`Output::FetchWeights`](crate::Output::FetchWeights).
    WeightsReady {
        /// The round that starts with these weights.
        round: RoundNumber,
        /// Their state root.
        root: StateRoot,
    },
    /// An [`Output::Apply`](crate::Output::Apply) or
    /// [`Output::FetchWeights`](crate::Output::FetchWeights) cannot be carried out for now: nobody
    /// here holds the blobs or the weights.
    ApplyFailed {
        /// The round to have been applied, or fetched.
        round: RoundNumber,
    },
    /// The round's training is done, and its blob is durably stored.
    Trained {
        /// The round trained in.
        round: RoundNumber,
        /// Hash of the contribution's blob, header included.
        blob: BlobHash,
        /// Its length in bytes.
        blob_bytes: u64,
        /// Sequences trained on.
        samples: Samples,
    },
    /// There will be no contribution from this peer in this round.
    TrainingFailed {
        /// The round that was being trained in.
        round: RoundNumber,
    },
    /// A signed message arrived, through gossip or in answer to
    /// [`Output::RequestRoundMessages`](crate::Output::RequestRoundMessages). It need not have been
    /// verified.
    Received {
        /// Comes back with the verdict.
        id: MessageId,
        /// The message.
        envelope: Envelope,
    },
    /// A contribution asked for with [`Output::Fetch`](crate::Output::Fetch) was examined, or given
    /// up.
    Validated {
        /// Hash of the commitment's envelope.
        commitment: EnvelopeHash,
        /// What was found.
        verdict: Verdict,
    },
    /// Decided rounds arrived, in answer to
    /// [`Output::RequestDecided`](crate::Output::RequestDecided).
    Synced(Vec<Decided>),
    /// A peer told where it is in the run.
    PeerStatus {
        /// The peer.
        peer: PeerId,
        /// What it says of itself: a hint, not a proof.
        status: Status,
    },
    /// A timer went off.
    TimerFired(TimerId),
    /// The person who runs this peer wants to stop.
    Leave,
}
