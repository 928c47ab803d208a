//! A bar for work whose length is known; it is not there where nobody looks.

use indicatif::{ProgressBar, ProgressStyle};

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
