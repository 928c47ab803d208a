//! Progress bars of bytes and rounds, and a spinner for a GPU's kernel warm-up. They are shown on a
//! terminal only.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use weal_trainer::{KernelWarmup, OpenDevice};

/// A progress bar of bytes.
pub(super) struct ByteBar(ProgressBar);

impl ByteBar {
    pub(super) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_message(what);
        let style = ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes} ({eta})");
        Self(style.map_or(bar.clone(), |style| bar.with_style(style)))
    }

    /// Takes the number of bytes done, and of bytes in total.
    pub(super) fn callback(&self) -> impl FnMut(u64, u64) + use<> {
        let bar = self.0.clone();
        move |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// Removes the bar from the screen.
    pub(super) fn clear(self) {
        self.0.finish_and_clear();
    }
}

/// A progress bar of rounds.
pub(super) struct RoundBar(ProgressBar);

impl RoundBar {
    pub(super) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_message(what);
        let style = ProgressStyle::with_template("{msg} {bar:30} {pos} of {len} ({eta})");
        Self(style.map_or(bar.clone(), |style| bar.with_style(style)))
    }

    /// Takes the number of rounds done, and of rounds in total.
    pub(super) fn callback(&self) -> impl FnMut(u64, u64) + use<> {
        let bar = self.0.clone();
        move |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// Removes the bar from the screen.
    pub(super) fn clear(self) {
        self.0.finish_and_clear();
    }
}

/// The device, with a spinner while its kernels are compiled and tuned.
pub(super) fn with_spinner(device: OpenDevice) -> OpenDevice {
    let name = device.name().to_owned();
    let shown = Mutex::new(None);
    device.on_kernel_warmup(move |kernels| {
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        match kernels {
            KernelWarmup::Running {
                new_kernels,
                elapsed,
            } => {
                shown.get_or_insert_with(spinner).set_message(format!(
                    "compiling and tuning GPU kernels for {name}: {new_kernels} so far, {} s; \
                     the results are cached",
                    elapsed.as_secs()
                ));
            }
            KernelWarmup::Done => {
                if let Some(spinner) = shown.take() {
                    spinner.finish_and_clear();
                }
            }
        }
    })
}

fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
