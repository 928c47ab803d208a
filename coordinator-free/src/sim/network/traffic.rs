//! Bytes by kind.

use std::collections::BTreeMap;

use weal_proto::Kind;

/// What bytes are spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficKind {
    /// Signed messages of this kind, through gossip.
    Gossip(Kind),
    /// Requests to peers.
    Request,
    /// Answers about how far a peer is.
    Status,
    /// Decided rounds in answers.
    Decided,
    /// Signed messages in answers to peers that ask what they missed.
    RoundMessages,
    /// Contributions, and whatever else travels as a blob.
    Blob,
    /// Weights that peers fetch from others.
    Weights,
}

/// Bytes of one peer or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent, by kind.
    pub sent: BTreeMap<TrafficKind, u64>,
    /// Bytes received, by kind.
    pub received: BTreeMap<TrafficKind, u64>,
}

impl Traffic {
    /// All bytes sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.values().sum()
    }

    /// All bytes received.
    pub fn received_bytes(&self) -> u64 {
        self.received.values().sum()
    }

    pub(super) fn count_sent(&mut self, kind: TrafficKind, bytes: u64) {
        *self.sent.entry(kind).or_default() += bytes;
    }

    pub(super) fn count_received(&mut self, kind: TrafficKind, bytes: u64) {
        *self.received.entry(kind).or_default() += bytes;
    }
}
