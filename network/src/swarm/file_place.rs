//! Where in a file of the node a fetched blob goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A place in a file for one blob. Pieces are written there as they arrive, so that a blob of any
/// length takes no memory, and a later fetch finds the pieces that are there already.
#[derive(Debug, Clone)]
pub struct FilePlace {
    /// The file. It must exist and be long enough for the blob.
    pub path: PathBuf,
    /// Where the blob begins in the file, in bytes.
    pub offset: u64,
    /// Bytes of the blob that are in the file and verified. The fetch keeps it up to date.
    pub done: Arc<AtomicU64>,
    /// Bytes of the blob that peers sent, and that the fetch wrote there.
    pub fetched: Arc<AtomicU64>,
}

impl FilePlace {
    /// A place in which nothing is verified yet.
    #[must_use]
    pub fn new(path: PathBuf, offset: u64) -> Self {
        Self {
            path,
            offset,
            done: Arc::default(),
            fetched: Arc::default(),
        }
    }

    /// Whether both are the same place.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        self.path == other.path && self.offset == other.offset
    }

    pub(super) fn set_done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    /// A piece that a peer sent was written.
    pub(super) fn add_fetched(&self, bytes: usize) {
        self.fetched.fetch_add(bytes as u64, Ordering::Relaxed);
        self.add_done(bytes);
    }

    pub(super) fn add_done(&self, bytes: usize) {
        self.done.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
