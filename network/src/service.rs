//! What this node answers when peers ask.

use weal_proto::{BlobHash, Outline};

use crate::identity::PeerKey;

/// What a service has of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// This.
    Here(T),
    /// Nothing.
    NotHere,
    /// It may not be served yet. The peer is told to retry later.
    NotYet,
}

impl<T> Found<T> {
    /// Changes what was found.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Here(found) => Found::Here(change(found)),
            Self::NotHere => Found::NotHere,
            Self::NotYet => Found::NotYet,
        }
    }
}

impl<T> From<Option<T>> for Found<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::NotHere, Self::Here)
    }
}

/// Answers the requests of peers.
///
/// Methods run on blocking threads, several at once. Requests come from anyone.
pub trait Service: Send + Sync + 'static {
    /// Answers a control request with at most [`MAX_SYNC_ANSWER`](crate::MAX_SYNC_ANSWER) bytes, or
    /// with `None` if there is no answer.
    fn answer(&self, from: PeerKey, request: &[u8]) -> Option<Vec<u8>>;

    /// Returns the outline of a blob.
    fn outline(&self, hash: &BlobHash) -> Found<Outline>;

    /// Returns one chunk of a blob: 1 MiB, or less for the last one.
    fn chunk(&self, hash: &BlobHash, index: u32) -> Found<Vec<u8>>;
}

/// A service that answers nothing, for a node that only fetches or listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Service for Silent {
    fn answer(&self, _from: PeerKey, _request: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn outline(&self, _hash: &BlobHash) -> Found<Outline> {
        Found::NotHere
    }

    fn chunk(&self, _hash: &BlobHash, _index: u32) -> Found<Vec<u8>> {
        Found::NotHere
    }
}
