//! A full disk: what must be written waits until there is space again.
//!
//! The node has stored nothing that it has not said, and says nothing that it has not stored, so it
//! can wait at every write. Nobody is accused meanwhile: this disk is no fault of a peer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Error, Result};

/// Pause between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);

/// Lets writers wait while the disk is full. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct FullDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Writes that wait for space.
    waiting: AtomicUsize,
    /// The last error.
    why: Mutex<String>,
    /// Becomes true when the node is to stop.
    stop: OnceLock<watch::Receiver<bool>>,
}

/// A write that waits for space.
pub(crate) struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            tracing::info!("there is space on the disk again");
        }
    }
}

impl FullDisk {
    /// Ends all waiting once this becomes true.
    pub(crate) fn stop_with(&self, stop: watch::Receiver<bool>) {
        let _ = self.shared.stop.set(stop);
    }

    /// What to tell people while a write waits.
    pub(crate) fn message(&self) -> Option<String> {
        let is_full = self.shared.waiting.load(Ordering::Acquire) > 0;
        is_full.then(|| {
            let why = self.shared.why.lock();
            let why = why.unwrap_or_else(PoisonError::into_inner);
            format!("the disk is full: {why}; free some space, and the node continues by itself")
        })
    }

    /// Writes, on a thread that may block; waits while the disk is full.
    ///
    /// # Errors
    /// Other errors of `write`, and that of the full disk once the node is to stop.
    pub(crate) fn retry<T>(&self, mut write: impl FnMut() -> Result<T>) -> Result<T> {
        let mut waiting = None;
        loop {
            match write() {
                Err(error) if error.is_disk_full() && !self.is_stopping() => {
                    waiting.get_or_insert_with(|| self.wait_for_space(&error));
                    std::thread::sleep(RETRY);
                }
                done => return done,
            }
        }
    }

    /// A write failed and will be repeated until the value returned is dropped.
    pub(crate) fn wait_for_space(&self, error: &Error) -> Waiting<'_> {
        let shared = &*self.shared;
        *shared.why.lock().unwrap_or_else(PoisonError::into_inner) = format!("{error:#}");
        if shared.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
            tracing::error!("the disk is full; waiting for space: {error:#}");
        }
        Waiting(shared)
    }

    /// The pause before the next attempt. Returns false if the node is to stop instead.
    pub(crate) async fn pause(&self) -> bool {
        let Some(mut stop) = self.shared.stop.get().cloned() else {
            tokio::time::sleep(RETRY).await;
            return true;
        };
        tokio::select! {
            Ok(_) = stop.wait_for(|stop| *stop) => false,
            () = tokio::time::sleep(RETRY) => true,
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stop.get().is_some_and(|stop| *stop.borrow())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    fn failed(kind: io::ErrorKind) -> Error {
        Error::storage("cannot write", Path::new("/data/weights"))(kind.into())
    }

    #[test]
    fn a_write_waits_until_there_is_space() {
        let disk = FullDisk::default();
        let mut attempts = 0;
        let written = disk.retry(|| {
            attempts += 1;
            if attempts == 1 {
                return Err(failed(io::ErrorKind::StorageFull));
            }
            assert!(disk.message().unwrap().contains("/data/weights"));
            Ok(())
        });
        written.unwrap();
        assert_eq!((attempts, disk.message()), (2, None));
    }

    #[test]
    fn another_error_and_the_end_of_the_node_end_the_waiting() {
        let disk = FullDisk::default();
        let error = disk.retry(|| Err::<(), _>(failed(io::ErrorKind::PermissionDenied)));
        assert!(!error.unwrap_err().is_disk_full());
        disk.stop_with(watch::channel(true).1);
        let error = disk.retry(|| Err::<(), _>(failed(io::ErrorKind::StorageFull)));
        assert!(error.unwrap_err().is_disk_full());
    }
}
