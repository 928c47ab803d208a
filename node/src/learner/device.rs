//! The device that trains: which one is taken after a failure, and when.
//!
//! A device is lost when its driver resets it, when it is unplugged, when the machine sleeps. Most
//! come back, at once or after a while, so that the same device is opened again, after longer and
//! longer pauses. All of it happens within the process: the backend's server for a lost device is
//! replaced by one that asks the driver anew ([`OpenDevice::reopen`]), which is enough under
//! Vulkan, Metal and DirectX 12, and keeps peers and the agreement going. Where a driver needs the
//! whole process to be new (CUDA after a fault), a restart can be asked for instead.

use std::time::{Duration, Instant};

use weal_trainer::OpenDevice;

use crate::settings::OnDeviceLoss;

/// The pause after a second failure; it doubles with every further one.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const MOST_PAUSE: Duration = Duration::from_secs(300);

/// The device, and its failures.
#[derive(Debug)]
pub(super) struct TrainingDevice {
    device: OpenDevice,
    on_loss: OnDeviceLoss,
    /// Failures since a round was last trained, of the device and of opening it.
    failures: u32,
    /// When it is opened again, while it is lost.
    retry_at: Option<Instant>,
}

impl TrainingDevice {
    /// A device that works.
    pub fn new(device: OpenDevice, on_loss: OnDeviceLoss) -> Self {
        Self {
            device,
            on_loss,
            failures: 0,
            retry_at: None,
        }
    }

    /// What the device in use is called.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// What is to be done when it is lost.
    pub fn on_loss(&self) -> OnDeviceLoss {
        self.on_loss
    }

    /// When it is to be opened again, while it is lost.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// A round was trained: what failed before is over.
    pub fn has_trained(&mut self) {
        self.failures = 0;
    }

    /// It failed, or could not be opened. Says when it is tried again.
    pub fn has_failed(&mut self, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let retry_at = now + pause(self.failures);
        self.retry_at = Some(retry_at);
        retry_at
    }

    /// The device to go on with. It is the one in use from [`TrainingDevice::is_open`] on.
    ///
    /// # Errors
    /// Where the device that was lost is still away.
    pub fn open(&self) -> weal_trainer::Result<OpenDevice> {
        match self.on_loss {
            OnDeviceLoss::Fallback => Ok(OpenDevice::cpu()),
            OnDeviceLoss::Wait | OnDeviceLoss::Restart => self.device.reopen(),
        }
    }

    /// As if the pause were over.
    #[cfg(test)]
    pub fn skip_pause(&mut self) {
        self.retry_at = self.retry_at.map(|_| Instant::now());
    }

    /// A learner was made on this device.
    pub fn is_open(&mut self, device: OpenDevice) {
        self.device = device;
        self.retry_at = None;
    }
}

/// The pause after so many failures in a row: none after the first, for most devices are back at
/// once.
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
