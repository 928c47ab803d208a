//! The schedule of one fetch: which chunks are wanted, requested, or here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use tokio::sync::Notify;
use tokio::time::timeout;
use weal_proto::{CHUNK_BYTES, Outline, OutlineError};

/// A chunk is late once its request took this long, and [`LATE_FACTOR`] times the mean of the
/// chunks so far. When no other chunk is wanted, a late chunk is requested from a second peer as
/// well.
const LATE: Duration = Duration::from_secs(4);
const LATE_FACTOR: u32 = 2;

/// A blob that is being fetched.
pub(super) struct ChunkSchedule {
    outline: Outline,
    state: Mutex<State>,
    /// Notified when a chunk becomes wanted, and when the blob is complete.
    changed: Notify,
}

struct State {
    bytes: Vec<u8>,
    wanted: Vec<u32>,
    requested: Vec<Requested>,
    /// Chunks that are not here yet.
    missing: usize,
    /// Total time that the requests of the chunks here took.
    took: Duration,
    arrived: u32,
}

struct Requested {
    index: u32,
    since: Instant,
    /// Peers with an open request for the chunk.
    peers: usize,
}

/// A chunk that one lane requests. If it is dropped unfilled, it is wanted again.
pub(super) struct Chunk<'a> {
    schedule: &'a ChunkSchedule,
    index: u32,
}

impl ChunkSchedule {
    /// Schedules every chunk, in random order. `None` if there is not enough memory for the blob.
    pub(super) fn new(outline: Outline) -> Option<Self> {
        let length = usize::try_from(outline.bytes).ok()?;
        let mut wanted: Vec<u32> = (0..u32::try_from(outline.chunks.len()).ok()?).collect();
        wanted.shuffle(&mut rand::rng());
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).ok()?;
        bytes.resize(length, 0);
        let state = State {
            bytes,
            missing: wanted.len(),
            wanted,
            requested: Vec::new(),
            took: Duration::ZERO,
            arrived: 0,
        };
        Some(Self {
            outline,
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// Waits until a chunk is wanted. Returns `false` once the blob is complete.
    pub(super) async fn wanted(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.state();
                if state.missing == 0 {
                    return false;
                }
                if !state.wanted.is_empty() || state.late().is_some() {
                    return true;
                }
            }
            // The timeout is there to notice late chunks.
            let _ = timeout(LATE / 4, changed).await;
        }
    }

    /// Takes a chunk to request now.
    pub(super) fn take(&self) -> Option<Chunk<'_>> {
        let mut state = self.state();
        let index = match state.wanted.pop() {
            Some(index) => {
                state.requested.push(Requested {
                    index,
                    since: Instant::now(),
                    peers: 1,
                });
                index
            }
            None => {
                let position = state.late()?;
                let late = state.requested.get_mut(position)?;
                late.peers += 1;
                late.index
            }
        };
        Some(Chunk {
            schedule: self,
            index,
        })
    }

    /// Waits until the blob is complete.
    pub(super) async fn complete(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state().missing == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Returns the blob, or the number of missing chunks.
    pub(super) fn into_bytes(self) -> Result<Vec<u8>, usize> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if state.missing == 0 {
            Ok(state.bytes)
        } else {
            Err(state.missing)
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Position of a late chunk that only one peer was asked for.
    fn late(&self) -> Option<usize> {
        let mean = self.took.checked_div(self.arrived).unwrap_or_default();
        let late = LATE.max(mean * LATE_FACTOR);
        self.requested
            .iter()
            .position(|chunk| chunk.peers == 1 && chunk.since.elapsed() >= late)
    }

    fn position(&self, index: u32) -> Option<usize> {
        self.requested.iter().position(|chunk| chunk.index == index)
    }
}

impl Chunk<'_> {
    /// Number of the chunk, from 0.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Verifies the bytes and copies them into the blob.
    pub(super) fn fill(self, bytes: &[u8]) -> Result<(), OutlineError> {
        let index = self.index as usize;
        self.schedule.outline.verify_chunk(index, bytes)?;
        let mut state = self.schedule.state();
        // Another peer may have been faster.
        let Some(position) = state.position(self.index) else {
            return Ok(());
        };
        let took = state.requested.swap_remove(position).since.elapsed();
        state.took += took;
        state.arrived += 1;
        if let Some(target) = state.bytes.chunks_mut(CHUNK_BYTES).nth(index) {
            target.copy_from_slice(bytes);
        }
        state.missing -= 1;
        let complete = state.missing == 0;
        drop(state);
        if complete {
            self.schedule.changed.notify_waiters();
        }
        Ok(())
    }
}

impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        let mut state = self.schedule.state();
        // Already filled, by this lane or another.
        let Some(position) = state.position(self.index) else {
            return;
        };
        let Some(chunk) = state.requested.get_mut(position) else {
            return;
        };
        chunk.peers -= 1;
        if chunk.peers == 0 {
            state.requested.swap_remove(position);
            state.wanted.push(self.index);
            drop(state);
            self.schedule.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob() -> Vec<u8> {
        (0..2 * CHUNK_BYTES + 5).map(|i| (i % 251) as u8).collect()
    }

    #[tokio::test]
    async fn chunks_filled_in_any_order_complete_the_blob() {
        let blob = blob();
        let schedule = ChunkSchedule::new(Outline::of(&blob)).unwrap();
        assert!(schedule.wanted().await);
        while let Some(chunk) = schedule.take() {
            let start = chunk.index() as usize * CHUNK_BYTES;
            let end = (start + CHUNK_BYTES).min(blob.len());
            chunk.fill(&blob[start..end]).unwrap();
        }
        assert!(!schedule.wanted().await);
        schedule.complete().await;
        assert_eq!(schedule.into_bytes().unwrap(), blob);
    }

    #[tokio::test]
    async fn an_unfilled_chunk_is_wanted_again() {
        let schedule = ChunkSchedule::new(Outline::of(&blob()[..10])).unwrap();
        let chunk = schedule.take().unwrap();
        assert!(schedule.take().is_none(), "requested twice");
        drop(chunk);
        assert!(schedule.wanted().await);
        assert!(schedule.take().unwrap().fill(b"other bytes").is_err());
        assert!(schedule.take().unwrap().fill(&blob()[..9]).is_err());
        assert_eq!(schedule.into_bytes().unwrap_err(), 1);
    }

    #[tokio::test]
    async fn a_late_chunk_is_requested_from_a_second_peer_and_counts_once() {
        let blob = &blob()[..10];
        let schedule = ChunkSchedule::new(Outline::of(blob)).unwrap();
        let slow = schedule.take().unwrap();
        schedule.state().requested[0].since = Instant::now() - LATE;
        assert!(schedule.wanted().await);
        let second = schedule.take().unwrap();
        assert!(schedule.take().is_none(), "requested from a third peer");
        second.fill(blob).unwrap();
        slow.fill(blob).unwrap();
        assert_eq!(schedule.into_bytes().unwrap(), blob);
    }

    #[test]
    fn the_empty_blob_is_complete_at_once() {
        let schedule = ChunkSchedule::new(Outline::of(&[])).unwrap();
        assert!(schedule.take().is_none());
        assert_eq!(schedule.into_bytes().unwrap(), Vec::<u8>::new());
    }
}
