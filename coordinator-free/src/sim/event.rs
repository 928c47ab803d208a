//! What can happen in the simulated world.

use std::sync::Arc;

use weal_proto::{BlobHash, Envelope, RoundNumber};

use super::learning::Task;
use super::network::Gossip;
use crate::interface::input::Input;
use crate::interface::output::{Apply, Fetch};

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A peer starts, for the first time or again.
    Start { peer: usize },
    /// A peer that has announced that it leaves is gone.
    Stop { peer: usize },
    /// A gossip message arrives from a neighbour.
    Deliver {
        peer: usize,
        from: usize,
        gossip: Arc<Gossip>,
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
    /// The audit looks whether the run makes progress.
    Watch,
}

/// Something that a peer waits for.
#[derive(Debug)]
pub(super) enum Local {
    /// The answer to something that the core asked for.
    Answer(Input),
    /// A peer's answer with the messages of a round.
    Messages(Vec<Envelope>),
    /// Time to look at the timers.
    Wake,
    /// Time to ask a peer how far it is.
    AskStatus,
    /// Training ends, unless it was stopped.
    TrainingEnds { training: u64, task: Task },
    /// A blob has arrived. It is of this round.
    BlobArrives { blob: BlobHash, round: RoundNumber },
    /// The peer tries to fetch a contribution.
    TryFetch { fetch: Fetch, tries_left: u32 },
    /// The peer tries to apply a round.
    TryApply { apply: Apply, tries_left: u32 },
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
