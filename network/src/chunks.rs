//! Which chunks of a blob are here, on their way, or wanted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use tokio::sync::Notify;
use tokio::time::timeout;
use weal_proto::{CHUNK_BYTES, Outline, OutlineError};

/// When nothing else is wanted, a chunk that is on its way for so long, and for [`LATE_FACTOR`]
/// times as long as the chunks that came took in the mean, is asked of a second peer too.
const LATE: Duration = Duration::from_secs(4);
const LATE_FACTOR: u32 = 2;

/// A blob on its way.
pub(super) struct ChunkSchedule {
    outline: Outline,
    state: Mutex<State>,
    /// Told whenever a chunk becomes wanted, and when the blob is complete.
    changed: Notify,
}

struct State {
    bytes: Vec<u8>,
    wanted: Vec<u32>,
    on_the_way: Vec<OnTheWay>,
    missing: usize,
    /// How long the chunks that are here took, in all.
    took: Duration,
    arrived: u32,
}

struct OnTheWay {
    index: u32,
    since: Instant,
    /// How many peers were asked and have not answered.
    asked: usize,
}

/// A chunk that one lane asks for; wanted again when it is dropped unfilled.
pub(super) struct Chunk<'a> {
    schedule: &'a ChunkSchedule,
    index: u32,
}

impl ChunkSchedule {
    /// Every chunk is wanted, in random order. `None` where there is no memory for the blob.
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
            on_the_way: Vec::new(),
            took: Duration::ZERO,
            arrived: 0,
        };
        Some(Self {
            outline,
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// Waits until a chunk is wanted; false when the blob is complete.
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
            // Woken in vain now and then, to see whether something is late.
            let _ = timeout(LATE / 4, changed).await;
        }
    }

    /// A chunk to ask for now.
    pub(super) fn take(&self) -> Option<Chunk<'_>> {
        let mut state = self.state();
        let index = match state.wanted.pop() {
            Some(index) => {
                state.on_the_way.push(OnTheWay {
                    index,
                    since: Instant::now(),
                    asked: 1,
                });
                index
            }
            None => {
                let place = state.late()?;
                let late = state.on_the_way.get_mut(place)?;
                late.asked += 1;
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

    /// The blob, or how many chunks of it are missing.
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
    /// The place of a chunk that one peer alone was asked for, too long ago.
    fn late(&self) -> Option<usize> {
        let mean = self.took.checked_div(self.arrived).unwrap_or_default();
        let late = LATE.max(mean * LATE_FACTOR);
        self.on_the_way
            .iter()
            .position(|chunk| chunk.asked == 1 && chunk.since.elapsed() >= late)
    }

    fn place(&self, index: u32) -> Option<usize> {
        self.on_the_way
            .iter()
            .position(|chunk| chunk.index == index)
    }
}

impl Chunk<'_> {
    /// Its place in the blob, in chunks.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Puts the bytes in their place if they are the chunk's.
    pub(super) fn fill(self, bytes: &[u8]) -> Result<(), OutlineError> {
        let index = self.index as usize;
        self.schedule.outline.verify_chunk(index, bytes)?;
        let mut state = self.schedule.state();
        // A second peer may have been faster.
        let Some(place) = state.place(self.index) else {
            return Ok(());
        };
        let took = state.on_the_way.swap_remove(place).since.elapsed();
        state.took += took;
        state.arrived += 1;
        if let Some(room) = state.bytes.chunks_mut(CHUNK_BYTES).nth(index) {
            room.copy_from_slice(bytes);
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
        // Filled, by this lane or another: nothing to do.
        let Some(place) = state.place(self.index) else {
            return;
        };
        let Some(chunk) = state.on_the_way.get_mut(place) else {
            return;
        };
        chunk.asked -= 1;
        if chunk.asked == 0 {
            state.on_the_way.swap_remove(place);
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
    async fn chunks_filled_in_any_order_make_the_blob() {
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
    async fn a_chunk_that_was_not_filled_is_wanted_again() {
        let schedule = ChunkSchedule::new(Outline::of(&blob()[..10])).unwrap();
        let chunk = schedule.take().unwrap();
        assert!(schedule.take().is_none(), "given out twice");
        drop(chunk);
        assert!(schedule.wanted().await);
        assert!(schedule.take().unwrap().fill(b"other bytes").is_err());
        assert!(schedule.take().unwrap().fill(&blob()[..9]).is_err());
        assert_eq!(schedule.into_bytes().unwrap_err(), 1);
    }

    #[tokio::test]
    async fn a_late_chunk_is_asked_of_a_second_peer_and_counts_once() {
        let blob = &blob()[..10];
        let schedule = ChunkSchedule::new(Outline::of(blob)).unwrap();
        let slow = schedule.take().unwrap();
        schedule.state().on_the_way[0].since = Instant::now() - LATE;
        assert!(schedule.wanted().await);
        let second = schedule.take().unwrap();
        assert!(schedule.take().is_none(), "asked of a third");
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
