//! Everything the rules ever ask of the world, and what the caller owes for each request.

use weal_proto::manifest::AggregationRule;
use weal_proto::{
    BlobHash, ChainSnapshot, Commitment, Decided, Envelope, EnvelopeHash, PeerId, RoundNumber,
    RoundSetHash, Seed, SlotId, StateRoot,
};

use crate::interface::event::Event;
use crate::interface::names::TimerId;
use crate::interface::share::Share;
use crate::interface::time::Millis;

/// Something to do. The caller carries out the outputs of a step in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Store the record durably *before* carrying out anything after it in the same list. If that
    /// fails, the program must end: if it went on, a restart could make this node contradict
    /// itself.
    Persist(Record),
    /// Send the message to every peer of the run.
    Broadcast(Envelope),
    /// Tells gossip what to do with the message of this step's
    /// [`Input::Received`](crate::Input::Received). Each `Received` yields exactly one `Verdict`,
    /// in the same step; no other input yields any. A message that the core keeps for the next
    /// round gets no second verdict when that round begins.
    Verdict(Acceptance),
    /// Train from the weights at the start of this round. Answer with
    /// [`Input::Trained`](crate::Input::Trained) or
    /// [`Input::TrainingFailed`](crate::Input::TrainingFailed), unless
    /// [`StopTraining`](Self::StopTraining) comes first.
    Train {
        /// The round to train in.
        round: RoundNumber,
        /// The round's seed. A newcomer's samples depend on it.
        seed: Seed,
        /// The samples that this node trains on.
        share: Share,
        /// State root of the weights to start from.
        base_root: StateRoot,
        /// Stop at this instant, even if steps are left.
        deadline: Millis,
    },
    /// Stop training: nobody needs the result any longer.
    StopTraining,
    /// Look for a ticket of this round and peer with this much work:
    /// [`weal_proto::Ticket::find`]. Answer with
    /// [`Input::TicketFound`](crate::Input::TicketFound).
    FindTicket {
        /// The running round.
        round: RoundNumber,
        /// Zero bits with which the ticket's hash must begin.
        bits: u32,
    },
    /// Voters decided a past round in two ways: this is the proof. The program must end and show
    /// it. The core does nothing any longer.
    Halt(Box<Conflict>),
    /// Serve this blob from now on. Nobody can commit to a copy of it in time any longer.
    Reveal {
        /// The round that the blob contributes to.
        round: RoundNumber,
        /// The blob to serve.
        blob: BlobHash,
    },
    /// Fetch a contribution and examine it. Answer with
    /// [`Input::Validated`](crate::Input::Validated).
    Fetch(Fetch),
    /// Compare the contributions of the running round with one another and with what this node
    /// learnt itself. Answer with [`Input::Compared`](crate::Input::Compared).
    Compare {
        /// The running round.
        round: RoundNumber,
        /// All that were found well formed, this node's own included, by rising slot.
        contributions: Vec<Candidate>,
        /// The blobs that the last rounds chose: who sends one of them again has done no work.
        earlier: Vec<BlobHash>,
    },
    /// Measure what chosen contributions of a decided round do to the loss. Answer with
    /// [`Input::Judged`](crate::Input::Judged), as often as there is something new.
    Judge(Judge),
    /// Apply a decided round to the weights. Answer with
    /// [`Input::WeightsReady`](crate::Input::WeightsReady) for the round after it, or with
    /// [`Input::ApplyFailed`](crate::Input::ApplyFailed).
    Apply(Apply),
    /// Compute the weights at the start of round 0. Answer with
    /// [`Input::WeightsReady`](crate::Input::WeightsReady), unless
    /// [`FetchWeights`](Self::FetchWeights) comes first.
    ComputeInitialWeights,
    /// Fetch the weights at the start of a round from peers, because this node's weights differ
    /// from the decided ones or are too far behind. Answer with
    /// [`Input::WeightsReady`](crate::Input::WeightsReady) for that round, or another whose root is
    /// decided, or with [`Input::ApplyFailed`](crate::Input::ApplyFailed).
    FetchWeights {
        /// The round that starts from the weights to fetch.
        round: RoundNumber,
        /// The state root that the fetched weights must have.
        root: StateRoot,
    },
    /// Give [`Input::TimerFired`](crate::Input::TimerFired) at this instant. Replaces a timer of
    /// the same name.
    SetTimer {
        /// Names the timer.
        id: TimerId,
        /// When it fires.
        at: Millis,
    },
    /// Cancel a timer. It need not be set.
    CancelTimer {
        /// Names the timer.
        id: TimerId,
    },
    /// Ask one or a few peers for decided rounds. Give what they send as
    /// [`Input::Synced`](crate::Input::Synced).
    RequestDecided {
        /// The first round that this node lacks.
        from_round: RoundNumber,
    },
    /// Ask one or a few peers for the messages of a round, which they take from
    /// [`Core::round_messages`](crate::Core::round_messages). Give each as
    /// [`Input::Received`](crate::Input::Received).
    RequestRoundMessages {
        /// The running round.
        round: RoundNumber,
    },
    /// Show this in logs, metrics and status pages.
    Report(Event),
}

/// What gossip does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// Forward it to peers.
    Accept,
    /// Do not forward it. The peer that sent it did nothing wrong.
    Ignore,
    /// Do not forward it, and lower the score of the peer that sent it.
    Reject,
}

/// A contribution to fetch and examine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The place that the peer holds in the round.
    pub slot: SlotId,
    /// Hash of the commitment's envelope. The answer repeats it.
    pub hash: EnvelopeHash,
    /// The peer that committed to the contribution.
    pub peer: PeerId,
    /// The commitment: the examination compares the blob with it.
    pub commitment: Commitment,
}

/// A contribution to compare with the others of its round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The contribution.
    pub fetch: Fetch,
    /// Whether its peer has a history of measured contributions. The others are compared with
    /// those that have.
    pub trusted: bool,
}

/// A decided round to apply to the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apply {
    /// The decided round. Applying it turns the weights at its start into those of the next round.
    pub round: RoundNumber,
    /// State root of the weights at the round's start.
    pub base_root: StateRoot,
    /// The contributions to apply, in this order. If there are none, the weights stay as they are.
    pub contributions: Vec<Chosen>,
    /// The outer learning rate, in parts per million.
    pub outer_rate_ppm: u32,
    /// What the sum of the contributions is divided by.
    pub rule: AggregationRule,
}

/// A contribution that voters chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The peer that contributed.
    pub peer: PeerId,
    /// Its commitment, which names the blob.
    pub commitment: Commitment,
    /// How much it counts, in parts per million; 0 for a contribution that is only measured.
    pub coefficient_ppm: u32,
}

/// What to measure of a decided round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    /// The decided round.
    pub round: RoundNumber,
    /// The round's seed.
    pub seed: Seed,
    /// State root of the weights at the round's start.
    pub base_root: StateRoot,
    /// Every chosen contribution, by rising slot.
    pub contributions: Vec<Judged>,
    /// The outer learning rate, in parts per million.
    pub outer_rate_ppm: u32,
    /// What the sum of the contributions is divided by.
    pub rule: AggregationRule,
}

/// A chosen contribution, and whether to measure it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The place that the peer held in the round.
    pub slot: SlotId,
    /// The contribution.
    pub chosen: Chosen,
    /// The samples that the round dealt to the peer. The commitment says how many of them it
    /// trained on.
    pub share: Share,
    /// Whether this node is to measure it. The others matter for the clipping of norms only.
    pub measure: bool,
}

/// Proof that voters decided a round in two ways.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// The round.
    pub round: RoundNumber,
    /// The hash of what this node holds as decided.
    pub ours: RoundSetHash,
    /// The other decision, with its certificate.
    pub theirs: Decided,
}

/// What must survive a crash. Records of rounds before the newest decided one may be deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// This node's only commitment in a round.
    OwnCommitment(Envelope),
    /// The commitments of a round that arrived in time, without this node's own. They come before
    /// [`OwnClosed`](Self::OwnClosed), at most once in a round.
    InTime(Vec<Envelope>),
    /// This node's notice that it takes no more commitments in a round.
    OwnClosed(Envelope),
    /// This node's only attestation in an attempt of a round.
    OwnAttestation(Envelope),
    /// This node's only recovery in a round.
    OwnRecovery(Envelope),
    /// This node's notice that it leaves the run.
    OwnLeave(Envelope),
    /// The next entry of a round's write-ahead log. Keep entries in the order they come in.
    AgreementLog {
        /// The round that voters are deciding.
        round: RoundNumber,
        /// The encoded entry.
        bytes: Vec<u8>,
    },
    /// A decided round with its proof. Rounds come in order and without gaps.
    Decided(Box<Decided>),
    /// What the decided rounds so far lead to, now and then. Keep the newest
    /// [`SNAPSHOTS`](crate::host::retention::SNAPSHOTS): a later start reads the rounds since only.
    Snapshot(Box<ChainSnapshot>),
}
