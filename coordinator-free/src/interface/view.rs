//! A snapshot of a running round, for status pages.
//!
//! The word "view" has two meanings here. A [`CoreView`] is a snapshot of this node's core. A
//! [`View`] is a number: Tendermint may need several attempts to decide a round, each with its own
//! proposer, and calls each attempt a view.

use std::fmt;

use weal_proto::{PeerId, RoundNumber, Seed, View, Weight};

use crate::interface::time::Millis;

/// How far a round has come. Phases follow one another in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// This node does not have the weights at the round's start yet.
    #[default]
    Waiting,
    /// Peers train and commit to their contributions.
    Committing,
    /// This node takes no more commitments, and waits until voters with more than two thirds of the
    /// weight take none either.
    Closing,
    /// Peers reveal, fetch and examine contributions.
    Fetching,
    /// Members attest what they found.
    Attesting,
    /// Voters agree on the round set.
    Deciding,
}

impl Phase {
    /// The phase's name in lower case, for logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Committing => "committing",
            Self::Closing => "closing",
            Self::Fetching => "fetching",
            Self::Attesting => "attesting",
            Self::Deciding => "deciding",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A snapshot of the core, taken with [`Core::view`](crate::Core::view).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreView {
    /// The running round. Its number is the number of decided rounds.
    pub round: RoundNumber,
    /// The round that starts from the newest weights in memory; `None` if there are none yet.
    pub weights_round: Option<RoundNumber>,
    /// How far the running round has come.
    pub phase: Phase,
    /// When the phase ends at the latest, on this node's clock; `None` if it has no time limit.
    pub phase_ends: Option<Millis>,
    /// The running round's seed.
    pub seed: Seed,
    /// The current attempt to decide the round; `None` before the agreement begins.
    pub view: Option<View>,
    /// The peer that may propose a round set in that attempt.
    pub proposer: Option<PeerId>,
    /// Every peer in the ledger and every peer that committed in this round, sorted by id.
    pub peers: Vec<PeerView>,
    /// The sum of all voting weights.
    pub total_weight: Weight,
    /// Whether this node has announced that it leaves.
    pub leaving: bool,
}

/// What this node knows about one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// Identifies the peer.
    pub peer: PeerId,
    /// How much the peer's vote counts; 0 if it has none.
    pub voting_weight: Weight,
    /// The weight that the peer has earned, before probation and vesting.
    pub weight: Weight,
    /// The number of its contributions in decided rounds.
    pub contributions: u64,
    /// The number of its contributions that were measured.
    pub measured: u32,
    /// How much its contribution counts in the outer step, in parts per million; 0 on probation.
    pub coefficient_ppm: u32,
    /// Whether it is a member.
    pub member: bool,
    /// Whether it is banned.
    pub banned: bool,
    /// Whether it may commit in the round.
    pub placed: bool,
    /// Whether the round waits for its commitment.
    pub expected: bool,
    /// Whether its commitment arrived in time.
    pub committed: bool,
    /// Whether its attestation has arrived.
    pub attested: bool,
}
