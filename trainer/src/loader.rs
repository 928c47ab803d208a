//! Reads batches ahead while the device computes, so that training does not wait for the disk.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use crate::engine::Batch;
use crate::error::{Error, Result};

/// Batches read before they are needed.
const AHEAD: usize = 4;

/// The batches of a round's steps, in order.
pub(crate) struct Loader {
    batches: Receiver<Result<Batch>>,
    waited: Duration,
}

impl Loader {
    /// Starts reading the batches of these steps on a thread of `scope`.
    pub(crate) fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        steps: Range<u64>,
        read: impl Fn(u64) -> Result<Batch> + Send + 'scope,
    ) -> Self {
        let (send, batches) = sync_channel(AHEAD);
        scope.spawn(move || {
            // Sending fails once training has stopped.
            let _ = steps.map(read).try_for_each(|batch| send.send(batch));
        });
        Self {
            batches,
            waited: Duration::ZERO,
        }
    }

    /// The next step's batch.
    ///
    /// # Errors
    /// If the batch cannot be read.
    pub(crate) fn next(&mut self) -> Result<Batch> {
        let start = Instant::now();
        let batch = self.batches.recv().unwrap_or(Err(Error::Stopped));
        self.waited += start.elapsed();
        batch
    }

    /// How long training has waited for batches so far, the first one included.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    fn batch(token: u64) -> Batch {
        Batch::new([vec![token as u32; 3]], 2)
    }

    #[test]
    fn batches_come_in_order_and_not_all_at_once() {
        let read = AtomicU64::new(0);
        thread::scope(|scope| {
            let mut loader = Loader::start(scope, 0..100, |step| {
                read.fetch_add(1, Ordering::Relaxed);
                Ok(batch(step))
            });
            for step in 0..50 {
                assert_eq!(
                    loader.next().unwrap().predictions(),
                    batch(step).predictions()
                );
            }
        });
        // The batches taken, those in the queue, and the one waiting to enter it.
        assert!(read.load(Ordering::Relaxed) <= 50 + AHEAD as u64 + 1);
    }

    #[test]
    fn a_batch_that_cannot_be_read_fails_when_it_is_needed() {
        thread::scope(|scope| {
            let mut loader = Loader::start(scope, 0..9, |step| {
                if step < 2 {
                    Ok(batch(step))
                } else {
                    Err(Error::DeviceName(step.to_string()))
                }
            });
            assert!(loader.next().is_ok() && loader.next().is_ok());
            assert!(matches!(loader.next(), Err(Error::DeviceName(step)) if step == "2"));
        });
    }
}
