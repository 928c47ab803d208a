//! Kernel warm-up: on first use a GPU compiles its kernels and tries several for each shape, which
//! takes seconds to minutes. This module reports it, so that nobody takes the GPU for stuck.
//!
//! Each sort of work is watched until one run of it used no kernel that was new to this process.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cubecl::hash::StableHash;
use cubecl::launched::LaunchedKernels;

/// How often a reporter is called during a warm-up.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// How often a warm-up is logged, in seconds.
const LOG_EVERY: u64 = 5;

/// What a GPU's kernels are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelWarmup {
    /// The GPU compiles and tunes kernels.
    Running {
        /// Kernels used for the first time so far.
        new_kernels: usize,
        /// Time since the work began.
        elapsed: Duration,
    },
    /// The work is done.
    Done,
}

/// Receives the progress of kernel warm-ups.
#[derive(Clone)]
pub(crate) struct WarmupReporter(Arc<dyn Fn(KernelWarmup) + Send + Sync>);

impl WarmupReporter {
    pub(crate) fn new(report: impl Fn(KernelWarmup) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// A reporter that writes to the log, every [`LOG_EVERY`] seconds.
    pub(crate) fn log(device: String) -> Self {
        let last = AtomicU64::new(0);
        Self::new(move |warmup| match warmup {
            KernelWarmup::Done => last.store(0, Ordering::Relaxed),
            KernelWarmup::Running {
                new_kernels,
                elapsed,
            } => {
                let turn = elapsed.as_secs() / LOG_EVERY;
                if last.fetch_max(turn, Ordering::Relaxed) < turn {
                    tracing::info!(
                        "compiling and tuning GPU kernels for {device}: {new_kernels} so far, {} s; the result is cached",
                        elapsed.as_secs()
                    );
                }
            }
        })
    }
}

impl fmt::Debug for WarmupReporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WarmupReporter")
    }
}

/// Every kernel that this process has used under watch.
static USED: LazyLock<Mutex<HashSet<StableHash>>> = LazyLock::new(Mutex::default);

/// Watches the work of one device for kernel warm-ups.
#[derive(Debug, Default)]
pub(crate) struct WarmupWatch {
    reporter: Option<WarmupReporter>,
    /// Sorts of work whose kernels are all compiled and tuned.
    warm: HashSet<&'static str>,
}

impl WarmupWatch {
    /// Without a reporter nothing is watched.
    pub(crate) fn new(reporter: Option<WarmupReporter>) -> Self {
        Self {
            reporter,
            warm: HashSet::new(),
        }
    }

    /// Runs some work of that sort, and reports new kernels while it runs.
    pub(crate) fn watch<T>(&mut self, sort: &'static str, work: impl FnOnce() -> T) -> T {
        let Some(reporter) = self.reporter.as_ref().filter(|_| !self.warm.contains(sort)) else {
            return work();
        };
        let mut new_kernels = NewKernels::begin();
        let (done, is_done) = sync_channel::<()>(0);
        let result = thread::scope(|scope| {
            let new_kernels = &mut new_kernels;
            scope.spawn(move || {
                while is_done.recv_timeout(REPORT_EVERY) == Err(RecvTimeoutError::Timeout) {
                    if new_kernels.count() > 0 {
                        reporter.0(KernelWarmup::Running {
                            new_kernels: new_kernels.count,
                            elapsed: new_kernels.begun.elapsed(),
                        });
                    }
                }
            });
            let result = work();
            drop(done);
            result
        });
        if new_kernels.count() == 0 {
            self.warm.insert(sort);
        }
        reporter.0(KernelWarmup::Done);
        result
    }
}

/// Counts the kernels that are launched for the first time from now on.
struct NewKernels {
    begun: Instant,
    launched: LaunchedKernels,
    count: usize,
}

impl NewKernels {
    fn begin() -> Self {
        Self {
            begun: Instant::now(),
            launched: LaunchedKernels::new(),
            count: 0,
        }
    }

    /// The number so far.
    fn count(&mut self) -> usize {
        // The next collection begins before this one ends, so that no kernel is missed.
        let launched = std::mem::replace(&mut self.launched, LaunchedKernels::new()).finish();
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        self.count += launched
            .into_iter()
            .filter(|kernel| used.insert(*kernel))
            .count();
        self.count
    }
}

/// The number of kernels that were used under watch.
#[cfg(test)]
pub(crate) fn used_kernels() -> usize {
    USED.lock().unwrap_or_else(PoisonError::into_inner).len()
}
