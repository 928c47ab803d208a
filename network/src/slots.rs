//! Limits on the blob requests that this node has open, over all its fetches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::identity::PeerKey;

/// Blob requests open with one peer: fewer than a peer answers at once
/// ([`PER_PEER`](crate::serve::PER_PEER)).
const REQUESTS_PER_PEER: usize = 6;
/// Blob requests open with all peers. Bounds the memory for chunks in flight.
const REQUESTS_IN_ALL: usize = 64;
/// Peers tracked before unused entries are removed.
const PEERS: usize = 64;

/// Permits for blob requests, per peer and in all.
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    peers: Mutex<HashMap<PeerKey, Arc<Semaphore>>>,
}

/// Permission to have one blob request open, until it is dropped.
pub(crate) struct Slot {
    _peer: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(REQUESTS_IN_ALL)),
            peers: Mutex::default(),
        }
    }

    /// Waits for permission to send `peer` a request. Never returns `None` while the network is up.
    pub(crate) async fn take(&self, peer: PeerKey) -> Option<Slot> {
        let of_peer = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            if peers.len() > PEERS {
                peers.retain(|_, slots| Arc::strong_count(slots) > 1);
            }
            let slots = peers
                .entry(peer)
                .or_insert_with(|| Arc::new(Semaphore::new(REQUESTS_PER_PEER)));
            Arc::clone(slots)
        };
        let peer = of_peer.acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Slot {
            _peer: peer,
            _all: all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_answers_more_requests_than_this_node_sends_it() {
        const { assert!(REQUESTS_PER_PEER < crate::serve::PER_PEER) };
    }
}
