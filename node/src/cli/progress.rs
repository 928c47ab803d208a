//! A bar for work whose length is known, and a spinner for a GPU's first steps; neither is there
//! where nobody looks.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use weal_trainer::{KernelWarmup, OpenDevice};

/// A progress bar of bytes.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_message(what);
        let style = ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes} ({eta})");
        Self(style.map_or(bar.clone(), |style| bar.with_style(style)))
    }

    /// To be told bytes done, and bytes in all.
    pub fn told(&self) -> impl FnMut(u64, u64) + use<> {
        let bar = self.0.clone();
        move |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// Takes the bar away.
    pub fn end(self) {
        self.0.finish_and_clear();
    }
}

/// The device, with a spinner while its kernels are compiled and tuned.
pub(super) fn spinning(device: OpenDevice) -> OpenDevice {
    let name = device.name().to_owned();
    let shown = Mutex::new(None);
    device.on_kernel_warmup(move |kernels| {
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        match kernels {
            KernelWarmup::Running { new_kernels: new, elapsed } => shown.get_or_insert_with(spinner).set_message(format!(
                "compiling and tuning GPU kernels for {name}: {new} so far, {} s; what is found is kept",
                elapsed.as_secs()
            )),
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
