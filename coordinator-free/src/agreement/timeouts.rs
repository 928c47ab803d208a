//! How long each step of the agreement may take.

use arc_malachitebft_core_types::{Timeout, TimeoutKind};
use weal_proto::manifest::Timing;
use weal_proto::{RoundNumber, VoteStep};

use super::codec;
use crate::interface::names::TimerId;

/// Growth from view to view ends here, unless the manifest's own timeout is longer.
const LONGEST_MS: u64 = 60_000;

/// The manifest's timeouts. Each view adds half of `vote_ms`, so that views eventually last long
/// enough for a slow network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    propose_ms: u64,
    vote_ms: u64,
}

impl Timeouts {
    pub(super) fn new(timing: &Timing) -> Self {
        Self {
            propose_ms: timing.propose_ms.into(),
            vote_ms: timing.vote_ms.into(),
        }
    }

    /// Milliseconds until the timeout fires.
    pub(super) fn delay_ms(&self, timeout: &Timeout) -> u64 {
        let growth = (self.vote_ms / 2).saturating_mul(codec::view(timeout.round).0.into());
        let first = match timeout.kind {
            TimeoutKind::Propose => self.propose_ms,
            TimeoutKind::Prevote | TimeoutKind::Precommit => self.vote_ms,
            TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => self
                .propose_ms
                .saturating_add(self.vote_ms.saturating_mul(2)),
        };
        let longest = LONGEST_MS.max(first);
        first.saturating_add(growth).min(longest)
    }
}

/// Our name for one of the engine's timeouts.
pub(super) fn timer(round: RoundNumber, timeout: &Timeout) -> TimerId {
    let view = codec::view(timeout.round);
    match timeout.kind {
        TimeoutKind::Propose => TimerId::Propose(round, view),
        TimeoutKind::Prevote => TimerId::Vote(round, view, VoteStep::Prevote),
        TimeoutKind::Precommit => TimerId::Vote(round, view, VoteStep::Precommit),
        TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => {
            TimerId::Rebroadcast(round, view)
        }
    }
}

/// The engine's name for a timer of this round; `None` if the timer is not the engine's.
pub(super) fn timeout(round: RoundNumber, timer: TimerId) -> Option<Timeout> {
    match timer {
        TimerId::Propose(r, view) if r == round => Some(Timeout::propose(codec::round(view))),
        TimerId::Vote(r, view, VoteStep::Prevote) if r == round => {
            Some(Timeout::prevote(codec::round(view)))
        }
        TimerId::Vote(r, view, VoteStep::Precommit) if r == round => {
            Some(Timeout::precommit(codec::round(view)))
        }
        TimerId::Rebroadcast(r, view) if r == round => {
            Some(Timeout::rebroadcast(codec::round(view)))
        }
        _ => None,
    }
}
