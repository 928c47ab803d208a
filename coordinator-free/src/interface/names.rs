//! Names that inputs and outputs share.

use weal_proto::{RoundNumber, View, VoteStep};

/// Names a timer. At most one timer of each name is set at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerId {
    /// Training in this round ends, even if peers have not committed yet.
    CommitClose(RoundNumber),
    /// Fetching in this round ends, even if contributions are missing.
    FetchClose(RoundNumber),
    /// Waiting for this round's attestations ends.
    AttestClose(RoundNumber),
    /// Time to check whether the round has made progress, and to ask peers if it has not.
    Nudge,
    /// The proposer of this view has run out of time.
    Propose(RoundNumber, View),
    /// This step's votes have run out of time.
    Vote(RoundNumber, View, VoteStep),
    /// Time to send this view's votes again.
    Rebroadcast(RoundNumber, View),
}
