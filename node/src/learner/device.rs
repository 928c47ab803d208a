//! Device loss: which device the node uses after a failure, and when.
//!
//! A device is lost when its driver resets it, when it is unplugged, or when the machine sleeps.
//! Most come back, at once or after a while, so the node opens the same device again after longer
//! and longer pauses. This happens within the process: a new server of the backend replaces that of
//! the lost device ([`OpenDevice::reopen`]). That is enough under Vulkan, Metal and DirectX 12, and
//! the node stays connected meanwhile. A driver that needs a new process, as CUDA does after a
//! fault, needs `compute.on_device_loss = "restart"`.

use std::time::{Duration, Instant};

use weal_trainer::OpenDevice;

use crate::settings::OnDeviceLoss;

/// The pause after the second failure in a row. It doubles with every further one.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const MOST_PAUSE: Duration = Duration::from_secs(300);

/// The device, and its failures.
#[derive(Debug)]
pub(super) struct TrainingDevice {
    device: OpenDevice,
    on_loss: OnDeviceLoss,
    /// Failures of the device and of opening it since a round was last trained.
    failures: u32,
    /// When a lost device is opened again.
    retry_at: Option<Instant>,
}

impl TrainingDevice {
    /// A device that works.
    pub(super) fn new(device: OpenDevice, on_loss: OnDeviceLoss) -> Self {
        Self {
            device,
            on_loss,
            failures: 0,
            retry_at: None,
        }
    }

    /// The name of the device in use.
    pub(super) fn name(&self) -> &str {
        self.device.name()
    }

    /// What the settings ask for when it is lost.
    pub(super) fn on_loss(&self) -> OnDeviceLoss {
        self.on_loss
    }

    /// When a lost device is opened again; `None` while the device works.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// A round was trained. The next failure counts as the first.
    pub(super) fn has_trained(&mut self) {
        self.failures = 0;
    }

    /// The device failed, or could not be opened. Returns when to try again.
    pub(super) fn has_failed(&mut self, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let retry_at = now + pause(self.failures);
        self.retry_at = Some(retry_at);
        retry_at
    }

    /// Opens the device to continue with. [`TrainingDevice::is_open`] then makes it the device in
    /// use.
    ///
    /// # Errors
    /// When the lost device cannot be opened yet.
    pub(super) fn open(&self) -> weal_trainer::Result<OpenDevice> {
        match self.on_loss {
            OnDeviceLoss::Fallback => Ok(OpenDevice::cpu()),
            OnDeviceLoss::Wait | OnDeviceLoss::Restart => self.device.reopen(),
        }
    }

    /// Ends the pause.
    #[cfg(test)]
    pub(super) fn skip_pause(&mut self) {
        self.retry_at = self.retry_at.map(|_| Instant::now());
    }

    /// A learner was made on this device.
    pub(super) fn is_open(&mut self, device: OpenDevice) {
        self.device = device;
        self.retry_at = None;
    }
}

/// The pause after this number of failures in a row: none after the first, because most devices
/// come back at once.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(more) => 1_u32.checked_shl(more).map_or(MOST_PAUSE, |factor| {
            PAUSE.saturating_mul(factor).min(MOST_PAUSE)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_a_round_is_trained() {
        let seconds: Vec<u64> = (1..=9).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!([pause(33), pause(34), pause(u32::MAX)], [MOST_PAUSE; 3]);

        let now = Instant::now();
        let mut device = TrainingDevice::new(OpenDevice::cpu(), OnDeviceLoss::Wait);
        assert_eq!(device.has_failed(now), now);
        assert_eq!(device.has_failed(now), now + PAUSE);
        device.has_trained();
        assert_eq!(device.has_failed(now), now);
    }
}
