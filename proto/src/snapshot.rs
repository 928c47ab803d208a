//! What decided rounds lead to, as a node stores it.
//!
//! Every node computes the same state from the same rounds, and a message has one encoding, so the
//! snapshots of a round are equal byte for byte on all nodes.

use crate::error::DecodeError;
use crate::ids::{
    BlobHash, PeerId, RoundNumber, RoundSetHash, RunId, Seed, SlotId, SnapshotHash, StateRoot,
};
use crate::limits;
use crate::message::Standalone;
use crate::schema::{message, rising};

/// BLAKE3 context under which a snapshot is hashed.
const CONTEXT: &str = "commonweal snapshot v1";

message! {
    /// The state of a run after its last decided round.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ChainSnapshot("snapshot", limits::SNAPSHOT_BYTES, sorted) {
        /// The version of the rules: [`limits::RULES`].
        pub rules: u32 = 1,
        /// The run.
        pub run: RunId = 2,
        /// The number of decided rounds, which is the number of the next one.
        pub round: RoundNumber = 3,
        /// Hash of the last decided round set.
        pub parent: RoundSetHash = 4,
        /// The seed of the next round.
        pub seed: Seed = 5,
        /// What each peer has earned, strictly rising by peer.
        pub accounts: Vec<AccountState> = 6[limits::SNAPSHOT_ACCOUNTS],
        /// Newcomers that wait for a place, strictly rising by peer.
        pub tickets: Vec<WaitingTicket> = 7[limits::WAITING_TICKETS],
        /// The voters of the next round, strictly rising by peer.
        pub voters: Vec<VoterState> = 8[limits::VOTERS],
        /// Positions that were dealt and not trained on, rising.
        pub returned: Vec<SampleRange> = 9[limits::RETURNED_SAMPLES],
        /// The first position that was never dealt.
        pub next_sample: u64 = 10,
        /// The last decisions, strictly rising by round.
        pub decisions: Vec<PastDecision> = 11[limits::PAST_ROUNDS],
        /// Whose attestations of the last rounds are decided, strictly rising by round.
        pub attesters: Vec<PastAttesters> = 12[limits::PAST_ROUNDS],
        /// The blobs that the last rounds chose, strictly rising by round.
        pub blobs: Vec<PastBlobs> = 13[limits::PAST_ROUNDS],
        /// Rounds whose contributions are being measured, strictly rising.
        pub unsettled: Vec<UnsettledRound> = 14[limits::UNSETTLED_ROUNDS],
    }
}

impl Standalone for ChainSnapshot {}

impl ChainSnapshot {
    /// The hash of the snapshot with this encoding.
    pub fn hash_of(bytes: &[u8]) -> SnapshotHash {
        blake3::derive_key(CONTEXT, bytes).into()
    }
}

message! {
    /// What one peer has earned.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AccountState("account", 192) {
        /// The peer.
        pub peer: PeerId = 1,
        /// The weight that it has earned, less decay.
        pub weight: u64 = 2,
        /// The number of its contributions that earned weight.
        pub contributions: u64 = 3,
        /// What its contributions and measurements have proved.
        pub standing: StandingState = 4,
        /// The round after the last decided one that holds a word from it.
        pub seen_until: RoundNumber = 5,
        /// The round after the last decided one that holds a contribution from it.
        pub contributed_until: RoundNumber = 6,
        /// Whether it may attest.
        pub member: bool = 7,
        /// Whether it has contradicted itself.
        pub banned: bool = 8,
        /// Whether the manifest names it.
        pub founder: bool = 9,
        /// Whose turn it is to propose.
        pub priority: i64 = 10,
        /// Whose turn it is to have a place.
        pub turn: i64 = 11,
        /// The weight with which a voter that has left still counts.
        pub departing: u64 = 12,
    }
}

message! {
    /// What a peer has proved over many rounds.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct StandingState("standing", 48) {
        /// The average of its scores over the last rounds.
        pub level: i32 = 1,
        /// The same over more rounds, for what it earns.
        pub worth: i32 = 2,
        /// The number of its contributions that were measured.
        pub measured: u32 = 3,
        /// How far its measurements were from the medians.
        pub distance: u32 = 4,
        /// The share of measurements that it did not report.
        pub missed: u32 = 5,
    }
}

message! {
    /// A newcomer that waits for a place.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct WaitingTicket("waiting ticket", 64) {
        /// The newcomer.
        pub peer: PeerId = 1,
        /// The round that decided its ticket.
        pub round: RoundNumber = 2,
    }
}

message! {
    /// A voter of a round.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct VoterState("voter", 64) {
        /// The voter.
        pub peer: PeerId = 1,
        /// How much its vote counts.
        pub weight: u64 = 2,
        /// Whose turn it is to propose.
        pub priority: i64 = 3,
    }
}

message! {
    /// Positions in the sequence of samples.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SampleRange("range of samples", 24) {
        /// The first position.
        pub start: u64 = 1,
        /// The position after the last.
        pub end: u64 = 2,
    }
}

message! {
    /// What a round decided, and who could decide it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PastDecision("past decision", 128 + limits::VOTERS * 66, voters_rise) {
        /// The round.
        pub round: RoundNumber = 1,
        /// Hash of the round set.
        pub decision: RoundSetHash = 2,
        /// The voters of the round, strictly rising by peer.
        pub voters: Vec<VoterState> = 3[limits::VOTERS],
    }
}

message! {
    /// Whose attestations of a round are decided.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PastAttesters("past attesters", 64 + limits::PAST_ATTESTERS * 34, peers_rise) {
        /// The round.
        pub round: RoundNumber = 1,
        /// Strictly rising.
        pub peers: Vec<PeerId> = 2[limits::PAST_ATTESTERS],
    }
}

message! {
    /// The blobs that a round chose.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PastBlobs("past blobs", 64 + limits::CONTRIBUTIONS * 34) {
        /// The round.
        pub round: RoundNumber = 1,
        /// In the order of the round set.
        pub blobs: Vec<BlobHash> = 2[limits::CONTRIBUTIONS],
    }
}

message! {
    /// A round whose contributions are being measured.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct UnsettledRound("unsettled round", limits::SNAPSHOT_BYTES, slots_rise) {
        /// The round.
        pub round: RoundNumber = 1,
        /// State root of the weights at its start.
        pub base_root: StateRoot = 2,
        /// Strictly rising by place.
        pub contributions: Vec<MeasuredContribution> = 3[limits::CONTRIBUTIONS],
    }
}

message! {
    /// A contribution that is being measured.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MeasuredContribution(
        "measured contribution",
        limits::SNAPSHOT_BYTES,
        committee_rises
    ) {
        /// The place that its peer held.
        pub slot: SlotId = 1,
        /// The contributor.
        pub peer: PeerId = 2,
        /// Whether its probation was over when the round was decided.
        pub trusted: bool = 3,
        /// The voices that the contributor's own weight stands for, in ppm of one.
        pub own_ppm: u64 = 4,
        /// The voters that were drawn to measure it, strictly rising by peer.
        pub committee: Vec<MeasuringVoter> = 5[limits::VOTERS],
    }
}

message! {
    /// A voter that was drawn to measure a contribution.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MeasuringVoter("measuring voter", 96) {
        /// The voter.
        pub peer: PeerId = 1,
        /// The number of its voices.
        pub voices: u64 = 2,
        /// What it has reported, if it has.
        pub report: Option<MeasuredGain> = 3,
    }
}

message! {
    /// What a voter measured, in ppm of the loss.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct MeasuredGain("measured gain", 16) {
        /// On samples that the contributor claims to have trained on.
        pub own_ppm: i32 = 1,
        /// On held-out samples.
        pub held_ppm: i32 = 2,
    }
}

fn sorted(snapshot: &ChainSnapshot) -> Result<(), DecodeError> {
    rising("ChainSnapshot.accounts", &snapshot.accounts, |a| a.peer)?;
    rising("ChainSnapshot.tickets", &snapshot.tickets, |t| t.peer)?;
    rising("ChainSnapshot.voters", &snapshot.voters, |v| v.peer)?;
    rising("ChainSnapshot.returned", &snapshot.returned, |r| r.start)?;
    rising("ChainSnapshot.decisions", &snapshot.decisions, |d| d.round)?;
    rising("ChainSnapshot.attesters", &snapshot.attesters, |a| a.round)?;
    rising("ChainSnapshot.blobs", &snapshot.blobs, |b| b.round)?;
    rising("ChainSnapshot.unsettled", &snapshot.unsettled, |u| u.round)
}

fn voters_rise(past: &PastDecision) -> Result<(), DecodeError> {
    rising("PastDecision.voters", &past.voters, |voter| voter.peer)
}

fn peers_rise(past: &PastAttesters) -> Result<(), DecodeError> {
    rising("PastAttesters.peers", &past.peers, |peer| *peer)
}

fn slots_rise(round: &UnsettledRound) -> Result<(), DecodeError> {
    let contributions = &round.contributions;
    rising("UnsettledRound.contributions", contributions, |one| {
        one.slot
    })
}

fn committee_rises(one: &MeasuredContribution) -> Result<(), DecodeError> {
    rising("MeasuredContribution.committee", &one.committee, |voter| {
        voter.peer
    })
}
