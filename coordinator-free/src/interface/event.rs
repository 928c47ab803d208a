//! What the rules report to logs, metrics and status pages.

use std::fmt;

use weal_proto::{Kind, PeerId, RoundNumber, StateRoot, View, Weight};

use crate::interface::view::Phase;

/// Something worth telling a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A round entered its next phase.
    PhaseChanged {
        /// The running round.
        round: RoundNumber,
        /// The phase it entered.
        phase: Phase,
    },
    /// The core dropped a message.
    Dropped {
        /// The message's kind, as its envelope claims.
        kind: Kind,
        /// The message's signer, as its envelope claims: the signature may be forged.
        signer: PeerId,
        /// The first check that the message failed.
        cause: DropCause,
    },
    /// A round was decided.
    Decided {
        /// The decided round.
        round: RoundNumber,
        /// The attempt that succeeded: 0 when the first proposer's set was decided.
        view: View,
        /// The number of contributions in the round set.
        contributions: usize,
        /// The number of voters that signed the certificate.
        voters: usize,
        /// The voting weight of those voters.
        weight: Weight,
        /// The voting weight of all voters.
        total: Weight,
        /// Whether this node learnt the decision from peers instead of reaching it itself.
        synced: bool,
    },
    /// A peer signed two messages that contradict each other. The pair is evidence.
    Equivocation {
        /// The peer that contradicted itself.
        peer: PeerId,
        /// The round of the two messages.
        round: RoundNumber,
        /// The kind of the two messages.
        kind: Kind,
    },
    /// A decided round banned a peer.
    Banned {
        /// The banned peer.
        peer: PeerId,
    },
    /// A decided round made a peer a member.
    Joined {
        /// The new member.
        peer: PeerId,
    },
    /// A decided round ended a peer's membership: it left, or was silent for too long.
    Left {
        /// The former member.
        peer: PeerId,
    },
    /// This node's weights differ from the decided ones, or from those that voters with more than
    /// half the weight train from. The node fetches the others' weights.
    RootMismatch {
        /// The round that starts from the weights.
        round: RoundNumber,
        /// The state root of this node's weights.
        ours: StateRoot,
        /// The state root of the decided weights, or of the voters' weights.
        theirs: StateRoot,
    },
    /// Voters are split about the weights that the round starts from, and none of them have half of
    /// the weight. This node computes its own again from older ones, which a decision proves.
    WeightsUnsure {
        /// The running round.
        round: RoundNumber,
        /// The decided round whose weights the node goes back to.
        back_to: RoundNumber,
    },
    /// A peer sent a decided round that does not verify.
    SyncRefused {
        /// The round it claims to be.
        round: RoundNumber,
        /// The rule that it breaks.
        cause: String,
    },
    /// A proposal breaks a rule: no honest voter will vote for it.
    ProposalRefused {
        /// The round that the proposal wants to decide.
        round: RoundNumber,
        /// The proposal's view.
        view: View,
        /// The rule that it breaks.
        cause: String,
    },
    /// Another machine signs with this node's key, or this node's disk was rolled back. Two
    /// machines must never share a key.
    OwnKeyElsewhere {
        /// The round of the message.
        round: RoundNumber,
        /// The kind of the message that this node does not remember signing.
        kind: Kind,
    },
    /// The agreement engine refused an input, or this node must not vote in the round any longer.
    /// The node can still learn the decision from peers.
    EngineFault {
        /// The running round.
        round: RoundNumber,
        /// What went wrong.
        cause: String,
    },
    /// Voters cannot agree on a base root, so they attest again.
    AttestedAgain {
        /// The running round.
        round: RoundNumber,
        /// The new attempt.
        attempt: u32,
    },
    /// The round is stuck, and this node has signed that the voters which its operator named are
    /// gone for ever.
    Recovering {
        /// The stuck round.
        round: RoundNumber,
    },
    /// A peer follows another version of the rules.
    OtherRules {
        /// The peer.
        peer: PeerId,
        /// Its version.
        rules: u32,
    },
    /// Peers are in a later round: this node is behind.
    Behind {
        /// The round that this node is in.
        round: RoundNumber,
        /// The round that peers are in.
        ahead: RoundNumber,
    },
}

/// Why a message was dropped. The caller counts each cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropCause {
    /// The envelope belongs to another run.
    WrongRun,
    /// The signature does not match the signer.
    BadSignature,
    /// The payload is longer than its kind allows.
    Oversized,
    /// The payload is not a canonical message of its kind.
    Malformed,
    /// Its round is already decided.
    PastRound,
    /// Its round is too far ahead. The message is a sign that this node is behind; it is not kept.
    FutureRound,
    /// Its view is too far ahead.
    FutureView,
    /// Its view ended too long ago.
    PastView,
    /// This node already has it.
    Replayed,
    /// The signer has already contradicted itself here. The first pair is the evidence; more would
    /// prove nothing new.
    Contradicted,
    /// The signer is banned.
    Banned,
    /// Only voters may send this kind, and the signer is not one.
    NotVoter,
    /// Only members may send this kind, and the signer is not one.
    NotMember,
    /// The signer is not the proposer of the message's view.
    NotProposer,
    /// The signer has no place in the round, so it may not commit.
    NoPlace,
    /// The message breaks the manifest's limits or contradicts decided history.
    Invalid,
    /// This node keeps a bounded number of such messages and has no space left.
    Full,
}

impl DropCause {
    /// Every cause, in the order of declaration.
    pub const ALL: [Self; 17] = [
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
        Self::NoPlace,
        Self::Invalid,
        Self::Full,
    ];

    /// The cause as a metric label: lower case, words joined by underscores.
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
            Self::NoPlace => "no_place",
            Self::Invalid => "invalid",
            Self::Full => "full",
        }
    }

    /// Whether the peer that forwarded the message is to blame: it could have noticed the fault
    /// itself.
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
