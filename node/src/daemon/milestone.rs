//! The state that this node's link names, for newcomers that begin from it.

use weal_coordinator_free::host::retention;
use weal_proto::Message;

use super::event_loop::Daemon;
use crate::anchor::Anchor;
use crate::error::Result;
use crate::store::Store;
use crate::store::blobs::{Blobs, Keep};

/// The newest milestone. It is kept as a blob for ever, so that links stay good.
///
/// # Errors
/// When the disk cannot be read or written.
pub(super) fn newest(store: &Store, blobs: &Blobs) -> Result<Option<Anchor>> {
    let kept = store.milestone()?;
    let snapshots = store.snapshots()?.into_iter().rev();
    let is_new = |round: &_| kept.is_none_or(|kept| kept.round < *round);
    let mut new = snapshots.filter(|round| retention::is_milestone(*round) && is_new(round));
    let Some(round) = new.next() else {
        return Ok(kept);
    };
    let Some(snapshot) = store.snapshot(round)? else {
        return Ok(kept);
    };
    let state = blobs.put(&snapshot.encode(), Keep::Pinned, false)?;
    let milestone = Anchor { round, state };
    store.put_milestone(milestone)?;
    Ok(Some(milestone))
}

impl Daemon {
    /// A snapshot was stored, which may be a milestone. If the blob cannot be written, the next
    /// snapshot is another try.
    pub(super) fn keep_milestone(&mut self) {
        match newest(&self.store, &self.context.blobs) {
            Ok(milestone) => self.milestone = milestone,
            Err(error) => tracing::warn!("the link names no newer state: {error:#}"),
        }
    }
}
