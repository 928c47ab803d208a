//! What a node asks the network to fetch.

use std::time::Duration;

use weal_proto::BlobHash;

use super::frame::Priority;
use super::picker::Order;
use crate::identity::PeerKey;

/// A blob to fetch. All connected peers are asked for it.
#[derive(Debug, Clone)]
pub struct Want {
    /// The blob's name.
    pub blob: BlobHash,
    /// A longer blob is not fetched.
    pub max_bytes: u64,
    /// Which blob comes first where several are wanted.
    pub priority: Priority,
    /// Peers that have the blob, if known: this node connects to them if it can.
    pub holders: Vec<PeerKey>,
    /// How long to look for a peer that has the blob. While peers claim to have it, the fetch goes
    /// on for at least two minutes without a chunk.
    pub patience: Duration,
}

impl Want {
    /// What the picker needs to know, and the holders other than this node.
    pub(crate) fn split(self, local: &PeerKey) -> (Order, Vec<PeerKey>) {
        let Self {
            blob,
            max_bytes,
            priority,
            mut holders,
            patience,
        } = self;
        holders.retain(|holder| holder != local);
        let order = Order {
            blob,
            priority,
            max_bytes,
            patience,
        };
        (order, holders)
    }
}
