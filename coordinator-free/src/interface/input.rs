//! Everything the rules ever learn about the world.

use weal_proto::{
    BlobHash, Decided, Envelope, EnvelopeHash, PeerId, RoundNumber, Samples, Score, SlotId,
    StateRoot, Status, Ticket, Verdict,
};

use crate::interface::names::TimerId;

/// How a contribution compares with the others of its round, in parts per million.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The contributor's place.
    pub slot: SlotId,
    /// Net overlap: the median over the others of agreeing less disagreeing signs at shared places.
    /// `None` if it could not be computed.
    pub net: Option<i32>,
    /// The noise to expect in the net overlap, from the number of shared places.
    pub net_noise: u32,
    /// Agreement with what this node learnt itself; `None` if it did not train.
    pub work: Option<i32>,
    /// Other contributions that are copies of it, or nearly so, by rising slot.
    pub alike: Vec<SlotId>,
    /// Whether it repeats one that an earlier round chose, or nearly so.
    pub repeats: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The caller is running. Give it once, before any other input.
    Start,
    /// The weights at the start of a round are in memory. Give it after start, after each
    /// [`Output::Apply`](crate::Output::Apply) (with the round after the applied one), after each
    /// [`Output::FetchWeights`](crate::Output::FetchWeights), and after
    /// [`Output::ComputeInitialWeights`](crate::Output::ComputeInitialWeights).
    WeightsReady {
        /// The round that starts from these weights.
        round: RoundNumber,
        /// Their state root.
        root: StateRoot,
    },
    /// There are no weights on disk, but the initial ones can be computed. Give it after start, in
    /// place of [`WeightsReady`](Self::WeightsReady).
    NoWeights,
    /// The caller could not carry out [`Output::Apply`](crate::Output::Apply) or
    /// [`Output::FetchWeights`](crate::Output::FetchWeights), because no reachable peer serves the
    /// blobs or the weights. The core tries again at the next [`TimerId::Nudge`].
    ApplyFailed {
        /// The round that was to be applied, or whose weights were to be fetched.
        round: RoundNumber,
    },
    /// Training has finished and the contribution's blob is stored durably.
    Trained {
        /// The round of the [`Output::Train`](crate::Output::Train) that this answers.
        round: RoundNumber,
        /// Hash of the contribution's blob, including its header.
        blob: BlobHash,
        /// Length of the blob in bytes.
        blob_bytes: u64,
        /// Number of sequences trained on.
        samples: Samples,
    },
    /// This node will not contribute to the round.
    TrainingFailed {
        /// The round of the [`Output::Train`](crate::Output::Train) that this answers.
        round: RoundNumber,
    },
    /// A signed message arrived, through gossip or in answer to
    /// [`Output::RequestRoundMessages`](crate::Output::RequestRoundMessages). The caller need not
    /// check anything about it.
    ///
    /// The same step returns exactly one [`Output::Verdict`](crate::Output::Verdict): it is about
    /// this message.
    Received(Envelope),
    /// A contribution requested with [`Output::Fetch`](crate::Output::Fetch) was examined, or the
    /// caller gave up fetching it ([`Verdict::Unavailable`]).
    Validated {
        /// [`Fetch::hash`](crate::Fetch::hash) of the request: the hash of the commitment's
        /// envelope.
        commitment: EnvelopeHash,
        /// What the examination found.
        verdict: Verdict,
    },
    /// The contributions of [`Output::Compare`](crate::Output::Compare) are compared.
    Compared {
        /// The round of the request.
        round: RoundNumber,
        /// What was found; a contribution that is missing here was not compared.
        signals: Vec<Signal>,
    },
    /// Some contributions of [`Output::Judge`](crate::Output::Judge) are measured. Each answer
    /// holds all scores so far, and replaces the one before.
    Judged {
        /// The round of the request.
        round: RoundNumber,
        /// The scores.
        scores: Vec<Score>,
    },
    /// Decided rounds arrived in answer to
    /// [`Output::RequestDecided`](crate::Output::RequestDecided). The rules verify each of them.
    Synced(Vec<Decided>),
    /// A peer reported how far it is in the run.
    PeerStatus {
        /// The peer that reported.
        peer: PeerId,
        /// Its own claim: a hint, not a proof.
        status: Status,
    },
    /// A timer set with [`Output::SetTimer`](crate::Output::SetTimer) fired.
    TimerFired(TimerId),
    /// A ticket was found in answer to [`Output::FindTicket`](crate::Output::FindTicket).
    TicketFound(Ticket),
    /// The operator declares that these voters are gone for ever. Once the running round has been
    /// stuck for a minute, this node signs that, which cannot be taken back.
    Recover {
        /// The voters that are gone.
        gone: Vec<PeerId>,
    },
    /// The operator wants this node to leave the run.
    Leave,
}
