//! Counts the kernels that a GPU is given, and times them.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::logging::{LaunchObservation, LaunchObserver, ProfileDuration, TimingRequest};
use cubecl_environment::future::block_on;

/// How often a kernel ran, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelUse {
    /// The kernel, as CubeCL names it.
    pub kernel: String,
    /// Launches.
    pub launches: usize,
    /// Seconds on the device, all launches together; 0 if they were not timed.
    pub seconds: f64,
}

/// Watches every launch of this process as long as it lives.
pub(crate) struct LaunchWatch {
    observer: Arc<Observer>,
    _observation: LaunchObservation,
}

#[derive(Default)]
struct Observer {
    is_timed: bool,
    launched: Mutex<Vec<&'static str>>,
    measured: Mutex<Vec<(&'static str, ProfileDuration)>>,
}

impl LaunchObserver for Observer {
    fn launched(&self, kernel: &'static str) {
        lock(&self.launched).push(kernel);
    }

    fn timing(&self) -> TimingRequest {
        if self.is_timed {
            TimingRequest::Deferred
        } else {
            TimingRequest::None
        }
    }

    fn profiled(&self, kernel: &'static str, profile: ProfileDuration) {
        lock(&self.measured).push((kernel, profile));
    }
}

fn lock<T>(values: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    values.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LaunchWatch {
    /// Begins to watch. Timing costs the thread that launches something for each kernel.
    pub(crate) fn begin(is_timed: bool) -> Self {
        let observer = Arc::new(Observer {
            is_timed,
            ..Observer::default()
        });
        Self {
            _observation: LaunchObservation::new(Arc::clone(&observer) as _),
            observer,
        }
    }

    /// What ran, the kernels that took longest first. Waits for the device if it was timed.
    pub(crate) fn finish(self) -> Vec<KernelUse> {
        let mut uses: BTreeMap<&'static str, (usize, f64)> = BTreeMap::new();
        for kernel in mem::take(&mut *lock(&self.observer.launched)) {
            uses.entry(kernel).or_default().0 += 1;
        }
        for (kernel, profile) in mem::take(&mut *lock(&self.observer.measured)) {
            if let Some(ticks) = block_on(profile.resolve()) {
                uses.entry(kernel).or_default().1 += ticks.duration().as_secs_f64();
            }
        }
        let mut uses: Vec<KernelUse> = uses
            .into_iter()
            .map(|(kernel, (launches, seconds))| KernelUse {
                kernel: kernel.to_owned(),
                launches,
                seconds,
            })
            .collect();
        let order = |of: &KernelUse| (of.seconds, of.launches as f64);
        uses.sort_by(|left, right| {
            let ((a, b), (c, d)) = (order(right), order(left));
            a.total_cmp(&c).then(b.total_cmp(&d))
        });
        uses
    }
}
