//! What a simulated run showed.

use std::collections::BTreeMap;

use weal_proto::PeerId;

use crate::interface::event::DropCause;

/// What a simulated run showed. Two runs of one scenario have equal outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A hash over every input and output of every peer, in order.
    pub trace: [u8; 32],
    /// How long the run took, in milliseconds of virtual time.
    pub virtual_ms: u64,
    /// The number of messages that arrived.
    pub delivered: u64,
    /// The number of crashes.
    pub crashes: u64,
    /// Rounds decided in a later view than 0, summed over peers.
    pub later_views: u64,
    /// Rounds that a peer learnt from others instead of deciding them, summed over peers.
    pub synced: u64,
    /// How often a peer fetched weights from others.
    pub weights_fetched: u64,
    /// The number of contributions in decided rounds.
    pub contributions: u64,
    /// The number of peers that have a vote at the end.
    pub voters: usize,
    /// The peers that are banned at the end.
    pub banned: Vec<PeerId>,
    /// How many messages were dropped for each cause.
    pub dropped: BTreeMap<DropCause, u64>,
}
