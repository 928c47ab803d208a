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
        /// Places in a round, if there are that many more than contributions: a quarter of
        /// `contributions` is to spare at most.
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
        /// The most that leaving and absent voters take from the quorum in a round.
        pub quorum_shrink_ppm: u32 = 6,
        /// Zero bits with which a ticket's hash begins: its price in work.
        pub ticket_bits: u32 = 7,
    }
}

message! {
    /// How contributions are judged, and what follows from it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Trust(NAME, NUMBERS_BYTES) {
        /// A contribution is refused if its net overlap or its agreement with a voter's work is
        /// below this part of the median.
        pub least_signal_ppm: u32 = 1,
        /// Two contributions that share this part of their values are copies.
        pub copy_ppm: u32 = 2,
        /// The fewest contributions among which net overlap refuses any. Among fewer, agreement
        /// with the voter's work decides alone.
        pub least_compared: u32 = 3,
        /// Voters drawn to measure a contribution.
        pub committee: u32 = 4,
        /// Measured contributions before a newcomer's are applied.
        pub probation: u32 = 5,
        /// Rounds after which a round is settled: scores that were decided by then count.
        pub settle_rounds: u32 = 6,
        /// The least relative loss change of a typical contribution that scores are divided by.
        /// Where contributions do less, scores shrink instead of being mostly noise.
        pub least_typical_ppm: u32 = 7,
        /// Limit on a score either way. A typical contribution scores 1,000,000.
        pub most_score_ppm: u32 = 8,
        /// A score this far below zero halves the standing.
        pub harm_ppm: u32 = 9,
        /// Rounds over which standing averages, and the distance of a voter.
        pub memory_rounds: u32 = 10,
        /// A contribution counts fully if its peer's standing is at least this part of the median.
        pub full_standing_ppm: u32 = 11,
        /// Limit on the credit that all peers together earn in a round.
        pub pot: u64 = 12,
        /// A voter whose measurements are this many times as far from the medians as the median
        /// voter's earns nothing.
        pub most_distance_ppm: u32 = 13,
    }
}

impl Default for Trust {
    /// What `weal new` writes. docs/protocol/trust.md has the reasons.
    fn default() -> Self {
        Self {
            least_signal_ppm: 500_000,
            copy_ppm: 500_000,
            least_compared: 5,
            committee: 5,
            probation: 3,
            settle_rounds: 3,
            least_typical_ppm: 200,
            most_score_ppm: 2_000_000,
            harm_ppm: 500_000,
            memory_rounds: 8,
            full_standing_ppm: 500_000,
            pot: 50_000,
            most_distance_ppm: 4_000_000,
        }
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
