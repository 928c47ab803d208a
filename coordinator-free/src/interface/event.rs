//! What is worth telling a person, a log or a metric.

use std::fmt;

use weal_proto::{Kind, PeerId, RoundNumber, StateRoot, View, Weight};

use crate::interface::view::Phase;

/// Something that happened inside the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A round went on to its next phase.
    PhaseChanged {
        /// The round.
        round: RoundNumber,
        /// The phase it is in now.
        phase: Phase,
    },
    /// A message was dropped.
    Dropped {
        /// What it was.
        kind: Kind,
        /// Who signed it, or is said to have.
        signer: PeerId,
        /// Why.
        cause: DropCause,
    },
    /// A round was decided.
    Decided {
        /// The round.
        round: RoundNumber,
        /// The attempt that decided it.
        view: View,
        /// Contributions chosen.
        contributions: usize,
        /// Voters in the certificate.
        voters: usize,
        /// Their weight.
        weight: Weight,
        /// The weight of all voters.
        total: Weight,
        /// True when the decision was learnt from others, not reached here.
        synced: bool,
    },
    /// A peer contradicted itself, provably.
    Equivocation {
        /// The peer.
        peer: PeerId,
        /// The round it did so in.
        round: RoundNumber,
        /// The kind of its two messages.
        kind: Kind,
    },
    /// A peer was banned by decision.
    Banned {
        /// The peer.
        peer: PeerId,
    },
    /// A peer became a member by decision.
    Joined {
        /// The peer.
        peer: PeerId,
    },
    /// A peer is no member any more, by decision.
    Left {
        /// The peer.
        peer: PeerId,
    },
    /// Own weights are not those that were decided, or that voters of more than half the weight
    /// have trained from: they are fetched anew.
    RootMismatch {
        /// The round at whose start they differ.
        round: RoundNumber,
        /// Own state root.
        own: StateRoot,
        /// The others' one.
        others: StateRoot,
    },
    /// A decided round from a peer does not verify.
    SyncRefused {
        /// The round.
        round: RoundNumber,
        /// Why.
        cause: String,
    },
    /// A proposal is not valid: nobody honest will vote for it.
    ProposalRefused {
        /// The round.
        round: RoundNumber,
        /// The view.
        view: View,
        /// Why.
        cause: String,
    },
    /// Someone signs with this peer's key, or its disk was rolled back: two machines must never
    /// share a key.
    OwnKeyElsewhere {
        /// The round.
        round: RoundNumber,
        /// The kind of the message that this peer does not know of.
        kind: Kind,
    },
    /// The agreement engine refused to go on in a round. The round can still be learnt from others.
    EngineFault {
        /// The round.
        round: RoundNumber,
        /// What it says.
        cause: String,
    },
    /// Messages of a later round arrive: this peer is behind.
    Behind {
        /// The round this peer is in.
        round: RoundNumber,
        /// The round spoken of.
        ahead: RoundNumber,
    },
}

/// Why a message was dropped. Each is counted by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropCause {
    /// The envelope is of another run.
    WrongRun,
    /// The signature is not the signer's.
    BadSignature,
    /// The payload is longer than its kind may be.
    Oversized,
    /// The payload is not a canonical message of its kind.
    Malformed,
    /// Of a round that is decided.
    PastRound,
    /// Of a round too far ahead: a sign of being behind, not stored.
    FutureRound,
    /// Of a view too far ahead.
    FutureView,
    /// Of a view that is long over.
    PastView,
    /// Known already.
    Replayed,
    /// The signer already said something else in its place. The first counts; the pair is evidence.
    Contradicted,
    /// The signer is banned.
    Banned,
    /// The signer is not a voter, and only voters may say this.
    NotVoter,
    /// The signer is not a member, and only members may say this.
    NotMember,
    /// The signer is not the proposer of that view.
    NotProposer,
    /// The message contradicts the manifest or the decided history.
    Invalid,
    /// Its place is taken: the round's messages are bounded.
    Full,
}

impl DropCause {
    /// Every cause.
    pub const ALL: [Self; 16] = [
        Self::WrongRun,
        Self::BadSignature,
        Self::Oversized,
        Self::Malformed,
        Self::PastRound,
        Self::FutureRound,
        Self::FutureView,
        Self::PastView,
        Self::Replayed,
        Self::Contradicted,
        Self::Banned,
        Self::NotVoter,
        Self::NotMember,
        Self::NotProposer,
        Self::Invalid,
        Self::Full,
    ];

    /// A short name for metrics: lower case, words joined by underscores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongRun => "wrong_run",
            Self::BadSignature => "bad_signature",
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::PastRound => "past_round",
            Self::FutureRound => "future_round",
            Self::FutureView => "future_view",
            Self::PastView => "past_view",
            Self::Replayed => "replayed",
            Self::Contradicted => "contradicted",
            Self::Banned => "banned",
            Self::NotVoter => "not_voter",
            Self::NotMember => "not_member",
            Self::NotProposer => "not_proposer",
            Self::Invalid => "invalid",
            Self::Full => "full",
        }
    }

    /// Whether the one who passed the message on should have known better.
    pub const fn blames_sender(self) -> bool {
        matches!(
            self,
            Self::WrongRun | Self::BadSignature | Self::Oversized | Self::Malformed | Self::Invalid
        )
    }
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
