//! Blobs that were fetched a moment ago. They are sent on until the node has stored them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weal_proto::BlobHash;

use super::parts::Parts;

/// How long a blob is kept.
const KEPT: Duration = Duration::from_secs(60);
/// How much memory these blobs may take together.
const MEMORY: u64 = 64 << 20;
/// How many there may be.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct Finished(VecDeque<(BlobHash, Arc<Parts>, Instant)>);

impl Finished {
    pub(super) fn keep(&mut self, blob: BlobHash, parts: Arc<Parts>, now: Instant) {
        self.0.push_back((blob, parts, now));
        while self.0.len() > MOST || self.memory() > MEMORY {
            self.0.pop_front();
        }
    }

    pub(super) fn get(&self, blob: &BlobHash) -> Option<Arc<Parts>> {
        let found = self.0.iter().find(|(kept, ..)| kept == blob);
        found.map(|(_, parts, _)| Arc::clone(parts))
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        self.0
            .retain(|(.., since)| now.saturating_duration_since(*since) < KEPT);
    }

    fn memory(&self) -> u64 {
        self.0.iter().map(|(_, parts, _)| parts.memory()).sum()
    }
}

#[cfg(test)]
mod tests {
    use weal_proto::Outline;

    use super::*;

    #[test]
    fn blobs_are_kept_for_a_while_and_within_a_limit() {
        let (mut finished, start) = (Finished::default(), Instant::now());
        let parts = |bytes| {
            let chunks = vec![[0; 32]; Outline::chunk_count(bytes) as usize];
            let outline = Outline { bytes, chunks };
            Arc::new(Parts::open(None, outline.into()).unwrap())
        };
        let keep = |finished: &mut Finished, name: u8, bytes| {
            finished.keep([name; 32].into(), parts(bytes), start);
        };
        keep(&mut finished, 1, MEMORY / 2);
        keep(&mut finished, 2, MEMORY / 2);
        assert!(finished.get(&[1; 32].into()).is_some());
        keep(&mut finished, 3, 1);
        assert!(finished.get(&[1; 32].into()).is_none());
        assert!(finished.get(&[2; 32].into()).is_some());
        finished.forget_old(start + KEPT);
        assert!(finished.get(&[2; 32].into()).is_none());
    }
}
