//! The protocol of a round: timing, limits, membership and founders.

use super::{NAME, NUMBERS_BYTES};
use crate::ids::{PeerId, Weight};
use crate::schema::message;

message! {
    /// Time limits of a round's phases in milliseconds, each from the end of the phase before. A
    /// phase ends early once every expected peer has done its part.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Timing(NAME, NUMBERS_BYTES) {
        /// Time from the start of the round until commitments are late.
        pub train_ms: u32 = 1,
        /// Time to fetch and check contributions.
        pub fetch_ms: u32 = 2,
        /// Time for the voters' attestations.
        pub attest_ms: u32 = 3,
        /// Time a proposer has before the others move on to the next one.
        pub propose_ms: u32 = 4,
        /// Time for a vote.
        pub vote_ms: u32 = 5,
    }
}

message! {
    /// Limits on the contents of a round.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Limits(NAME, NUMBERS_BYTES) {
        /// Contributions applied in a round (K).
        pub contributions: u32 = 1,
        /// Bytes of a contribution's blob, header included.
        pub blob_bytes: u32 = 2,
        /// Peers whose commitments are considered in a round.
        pub peers: u32 = 3,
    }
}

message! {
    /// How peers earn and lose votes.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Membership(NAME, NUMBERS_BYTES) {
        /// Share of a weight that remains after a round.
        pub weight_decay_ppm: u32 = 1,
        /// Weight earned by one decided contribution.
        pub credit: u64 = 2,
        /// Decided contributions before a newcomer's weight begins to count.
        pub probation_rounds: u32 = 3,
        /// Further decided contributions until all of its weight counts.
        pub vesting_rounds: u32 = 4,
        /// Consecutive rounds of silence after which a peer leaves the roster.
        pub absence_rounds: u32 = 5,
    }
}

message! {
    /// A voter of round 0.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Founder(NAME, 64) {
        /// The founder's key.
        pub peer: PeerId = 1,
        /// Initial weight. It decays like any other.
        pub weight: Weight = 2,
    }
}
