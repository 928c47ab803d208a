//! What can happen in the simulated world.

use std::sync::Arc;

use weal_proto::{BlobHash, Envelope, EnvelopeHash, RoundNumber};

use crate::interface::input::Input;
use crate::interface::names::TimerId;
use crate::interface::output::Apply;

/// Something that will happen. An event with an `incarnation` is lost if the peer crashes first: it
/// answers what an earlier incarnation asked for.
#[derive(Debug)]
pub(super) enum Event {
    /// A peer starts, for the first time or again.
    Start { peer: usize },
    /// A message arrives.
    Deliver {
        peer: usize,
        envelope: Arc<Envelope>,
    },
    /// A peer gets the answer to something that it asked for.
    Answer {
        peer: usize,
        incarnation: u64,
        input: Input,
    },
    /// A timer fires, unless it was replaced or cancelled. `number` tells it from others of its
    /// name.
    Timer {
        peer: usize,
        incarnation: u64,
        id: TimerId,
        number: u64,
    },
    /// Training ends, unless it was stopped.
    TrainingEnds {
        peer: usize,
        incarnation: u64,
        training: u64,
        round: RoundNumber,
    },
    /// A peer tries to fetch a contribution.
    TryFetch {
        peer: usize,
        incarnation: u64,
        commitment: EnvelopeHash,
        blob: BlobHash,
        tries_left: u32,
    },
    /// A peer tries to apply a round.
    TryApply {
        peer: usize,
        incarnation: u64,
        apply: Apply,
    },
    /// A request arrives at a peer.
    Request {
        peer: usize,
        from: usize,
        request: Request,
    },
    /// A peer that has announced that it leaves is gone.
    Stop { peer: usize },
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
