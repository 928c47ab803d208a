//! What must be done about it: everything the rules ever ask of the world.

use weal_proto::manifest::AggregationRule;
use weal_proto::{
    BlobHash, Decided, Envelope, EnvelopeHash, PeerId, RoundNumber, Samples, Seed, StateRoot, View,
    VoteStep,
};

use crate::interface::event::Event;
use crate::interface::input::MessageId;
use crate::interface::time::Millis;

/// Something to do. Outputs of one step are carried out in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Store this durably *before* anything after it in the same list is carried out. If it cannot
    /// be stored, the program must end: going on could make this peer contradict itself.
    Persist(Record),
    /// Send to every peer of the run.
    Broadcast(Envelope),
    /// What to do with a message that gossip brought.
    Verdict {
        /// The message.
        id: MessageId,
        /// Whether it is to be passed on.
        acceptance: Acceptance,
    },
    /// Train from the weights at this round's start. Answer with
    /// [`Input::Trained`](crate::Input::Trained) or
    /// [`Input::TrainingFailed`](crate::Input::TrainingFailed).
    Train {
        /// The round.
        round: RoundNumber,
        /// What the assignment of samples is drawn from.
        seed: Seed,
        /// State root of the weights to start from.
        base_root: StateRoot,
        /// When to stop, if the steps are not done by then.
        deadline: Millis,
    },
    /// Whatever is being trained is of no use any more.
    StopTraining,
    /// The blob may be served from now on: nobody can still commit to a copy of it.
    Reveal {
        /// The round it belongs to.
        round: RoundNumber,
        /// The blob.
        blob: BlobHash,
    },
    /// Fetch a contribution and check its structure. Answer with
    /// [`Input::Validated`](crate::Input::Validated).
    Fetch(Fetch),
    /// Take the weights of `round` to those of the round after it. Answer with
    /// [`Input::WeightsReady`](crate::Input::WeightsReady) for that round, or
    /// [`Input::ApplyFailed`](crate::Input::ApplyFailed).
    Apply(Apply),
    /// Get the weights at a round's start from other peers: own ones differ, or are too far behind.
    /// Answer with [`Input::WeightsReady`](crate::Input::WeightsReady) for that round, or
    /// [`Input::ApplyFailed`](crate::Input::ApplyFailed).
    FetchWeights {
        /// The round.
        round: RoundNumber,
        /// Their decided state root: what arrives must have it.
        root: StateRoot,
    },
    /// Say [`Input::TimerFired`](crate::Input::TimerFired) at this instant. A timer already set
    /// with this id is replaced.
    SetTimer {
        /// Names the timer.
        id: TimerId,
        /// When.
        at: Millis,
    },
    /// Forget a timer. It may not have been set.
    CancelTimer {
        /// Names the timer.
        id: TimerId,
    },
    /// Ask one or a few peers for decided rounds. Answer, if there is one, with
    /// [`Input::Synced`](crate::Input::Synced).
    RequestDecided {
        /// The first round wanted.
        from_round: RoundNumber,
    },
    /// Ask one or a few peers for the messages of a round (they answer with
    /// [`Core::round_messages`](crate::Core::round_messages)). Pass each on as
    /// [`Input::Received`](crate::Input::Received).
    RequestRoundMessages {
        /// The round.
        round: RoundNumber,
    },
    /// For logs, metrics and status pages.
    Report(Event),
}

/// Whether a message is to be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// Pass it on.
    Accept,
    /// Keep it to yourself; its sender has done nothing wrong.
    Ignore,
    /// Keep it to yourself, and think less of who sent it.
    Reject,
}

/// A contribution to fetch and examine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The round.
    pub round: RoundNumber,
    /// Hash of the commitment's envelope: names this request in the answer.
    pub commitment: EnvelopeHash,
    /// Who contributed.
    pub peer: PeerId,
    /// The blob.
    pub blob: BlobHash,
    /// Its length in bytes, as committed.
    pub blob_bytes: u64,
    /// Sequences trained on, as committed.
    pub samples: Samples,
    /// State root of the weights the training started from, as committed.
    pub base_root: StateRoot,
}

/// A decided round to apply to the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apply {
    /// The round: `base_root` is that of the weights at its start.
    pub round: RoundNumber,
    /// State root of the weights before.
    pub base_root: StateRoot,
    /// What to apply, in this order. Empty leaves the weights as they are.
    pub contributions: Vec<Chosen>,
    /// The outer learning rate, in parts per million.
    pub outer_rate_ppm: u32,
    /// What divides the sum of the contributions.
    pub rule: AggregationRule,
}

/// A chosen contribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Who contributed.
    pub peer: PeerId,
    /// The blob.
    pub blob: BlobHash,
    /// Its length in bytes.
    pub blob_bytes: u64,
    /// Sequences trained on.
    pub samples: Samples,
}

/// What must survive a crash. Records of rounds before the newest decided one may be deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// This peer's commitment of a round: there is one ever.
    OwnCommitment(Envelope),
    /// This peer's attestation of a round: there is one ever.
    OwnAttestation(Envelope),
    /// This peer said that it leaves.
    OwnLeave(Envelope),
    /// The next entry of the agreement's write-ahead log of a round. Entries are kept in the order
    /// they come in.
    AgreementLog {
        /// The round.
        round: RoundNumber,
        /// The entry.
        bytes: Vec<u8>,
    },
    /// A decided round with its proof. Rounds come in order, without a gap.
    Decided(Box<Decided>),
}

/// Names a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerId {
    /// The end of a round's training, whoever is missing.
    CommitClose(RoundNumber),
    /// The end of a round's fetching, whatever is missing.
    FetchClose(RoundNumber),
    /// The end of waiting for a round's attestations.
    AttestClose(RoundNumber),
    /// Looks whether anything has moved, and asks around if not.
    Nudge,
    /// A proposer's time is up.
    Propose(RoundNumber, View),
    /// The time for a vote is up.
    Vote(RoundNumber, View, VoteStep),
    /// Votes of this view are to be repeated.
    Rebroadcast(RoundNumber, View),
}
