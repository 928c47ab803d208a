//! What this node answers when peers ask.

use weal_proto::{BlobHash, Outline};

use crate::identity::PeerKey;

/// Answers the requests of peers.
///
/// Methods run on blocking threads, several at once. Requests come from anyone.
pub trait Service: Send + Sync + 'static {
    /// Answers a control request with at most [`MAX_SYNC_ANSWER`](crate::MAX_SYNC_ANSWER) bytes, or
    /// with `None` if there is no answer.
    fn answer(&self, from: PeerKey, request: &[u8]) -> Option<Vec<u8>>;

    /// Returns the outline of a blob that this node has and may serve now.
    fn outline(&self, hash: &BlobHash) -> Option<Outline>;

    /// Returns one chunk of a blob: 1 MiB, or less for the last one. `None` if the chunk is not
    /// here or may not be served yet.
    fn chunk(&self, hash: &BlobHash, index: u32) -> Option<Vec<u8>>;
}

/// A service that answers nothing, for a node that only fetches or listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Service for Silent {
    fn answer(&self, _from: PeerKey, _request: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn outline(&self, _hash: &BlobHash) -> Option<Outline> {
        None
    }

    fn chunk(&self, _hash: &BlobHash, _index: u32) -> Option<Vec<u8>> {
        None
    }
}
