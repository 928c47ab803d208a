//! A device that fails on purpose, to test how everything above handles device loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// When a device fails, and for how long it stays lost. Clones share one count.
#[derive(Clone, Debug)]
pub struct InjectedFault {
    steps: Arc<AtomicU64>,
    refusals: Arc<AtomicU64>,
}

impl InjectedFault {
    /// Fails once, in the inner step after `steps` good ones, and then refuses to be opened
    /// `refusals` times.
    pub fn after(steps: u64, refusals: u64) -> Self {
        Self {
            steps: Arc::new(AtomicU64::new(steps + 1)),
            refusals: Arc::new(AtomicU64::new(refusals)),
        }
    }

    /// Called when an inner step begins.
    ///
    /// # Panics
    /// In the step that is to fail, as a driver would.
    pub(crate) fn step(&self) {
        assert!(
            count_down(&self.steps) != Some(1),
            "the device was lost, for a test"
        );
    }

    /// Called when the device is opened again.
    pub(crate) fn open(&self, device: &str) -> Result<()> {
        match count_down(&self.refusals) {
            None => Ok(()),
            Some(_) => Err(Error::NoDevice {
                wanted: device.to_owned(),
                found: "it is still lost, for a test".to_owned(),
                remedy: "wait".to_owned(),
            }),
        }
    }
}

/// Decrements a count and returns its value before; `None` if it was zero.
fn count_down(count: &AtomicU64) -> Option<u64> {
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            left.checked_sub(1)
        })
        .ok()
}
