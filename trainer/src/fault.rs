//! A device that fails on purpose: what has to bear a lost device is tested with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// When a device fails, and how long it stays away. Copies count together.
#[derive(Clone, Debug)]
pub struct Fault {
    steps: Arc<AtomicU64>,
    refusals: Arc<AtomicU64>,
}

impl Fault {
    /// Fails once, in the inner step after so many, and cannot be opened again so many times.
    pub fn after(steps: u64, refusals: u64) -> Self {
        Self {
            steps: Arc::new(AtomicU64::new(steps + 1)),
            refusals: Arc::new(AtomicU64::new(refusals)),
        }
    }

    /// An inner step begins.
    ///
    /// # Panics
    /// As drivers do, where it is this one.
    pub(crate) fn step(&self) {
        assert!(
            count_down(&self.steps) != Some(1),
            "the device was lost, for a test"
        );
    }

    /// The device is opened again.
    pub(crate) fn open(&self, device: &str) -> Result<()> {
        match count_down(&self.refusals) {
            None => Ok(()),
            Some(_) => Err(Error::NoDevice {
                wanted: device.to_owned(),
                found: "it is still away, for a test".to_owned(),
                remedy: "wait".to_owned(),
            }),
        }
    }
}

/// What was there before it is one less; nothing at zero.
fn count_down(count: &AtomicU64) -> Option<u64> {
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            left.checked_sub(1)
        })
        .ok()
}
