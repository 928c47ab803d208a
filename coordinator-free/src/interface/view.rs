//! What a status page shows of a running round.

use std::fmt;

use weal_proto::{PeerId, RoundNumber, Seed, View, Weight};

use crate::interface::time::Millis;

/// Where a round is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The weights at its start are not here yet.
    #[default]
    Waiting,
    /// Peers train, and commit to what they learnt.
    Committing,
    /// Contributions are revealed, fetched and examined.
    Fetching,
    /// Members say what they found.
    Attesting,
    /// Voters agree on the set to apply.
    Deciding,
}

impl Phase {
    /// A short lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Committing => "committing",
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

/// A snapshot of the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreView {
    /// The round that is running: as many are decided.
    pub round: RoundNumber,
    /// The newest round whose weights are here.
    pub weights_round: Option<RoundNumber>,
    /// Where the round is.
    pub phase: Phase,
    /// When the phase ends at the latest, by this peer's clock.
    pub phase_ends: Option<Millis>,
    /// The seed of the round.
    pub seed: Seed,
    /// The attempt to decide it, once it is being decided.
    pub view: Option<View>,
    /// Who may propose in that view.
    pub proposer: Option<PeerId>,
    /// Everyone known to the run or heard of in this round, by peer.
    pub peers: Vec<PeerView>,
    /// The weight of all voters.
    pub total_weight: Weight,
    /// True when this peer has said that it leaves.
    pub leaving: bool,
}

/// What is known of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// The peer.
    pub peer: PeerId,
    /// What its vote counts: 0 when it has none.
    pub voting_weight: Weight,
    /// What it has earned.
    pub weight: Weight,
    /// Decided contributions.
    pub contributions: u64,
    /// Whether it is a member.
    pub member: bool,
    /// Whether it is banned.
    pub banned: bool,
    /// Whether the round waits for it.
    pub expected: bool,
    /// Whether its commitment came in time.
    pub committed: bool,
    /// Whether its attestation is here.
    pub attested: bool,
}
