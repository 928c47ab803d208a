//! What can happen in the simulated world.

use std::sync::Arc;

use weal_proto::{BlobHash, Envelope, EnvelopeHash, RoundNumber};

use crate::interface::input::Input;
use crate::interface::names::TimerId;
use crate::interface::output::Apply;

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A peer starts, for the first time or again.
    Start { peer: usize },
    /// A peer that has announced that it leaves is gone.
    Stop { peer: usize },
    /// A message arrives.
    Deliver {
        peer: usize,
        envelope: Arc<Envelope>,
    },
    /// A request arrives at a peer.
    Request {
        peer: usize,
        from: usize,
        request: Request,
    },
    /// Something that this incarnation of a peer waits for. It is lost if the peer crashes first.
    Local {
        peer: usize,
        incarnation: u64,
        what: Local,
    },
}

/// Something that a peer waits for.
#[derive(Debug)]
pub(super) enum Local {
    /// The answer to something that the core asked for.
    Answer(Input),
    /// A timer fires, unless it was replaced or cancelled. `number` tells it from others of its
    /// name.
    Timer { id: TimerId, number: u64 },
    /// Training ends, unless it was stopped.
    TrainingEnds { training: u64, round: RoundNumber },
    /// The peer tries to fetch a contribution.
    TryFetch {
        commitment: EnvelopeHash,
        blob: BlobHash,
        tries_left: u32,
    },
    /// The peer tries to apply a round.
    TryApply(Apply),
}

/// What one peer asks another for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request {
    /// Decided rounds from this one.
    Decided(RoundNumber),
    /// The messages of this round.
    RoundMessages(RoundNumber),
    /// How far the peer is.
    Status,
}
