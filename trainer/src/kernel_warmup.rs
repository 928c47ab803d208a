//! Tells people why a GPU seems to do nothing: at first use its kernels are compiled, and several
//! tried for each shape.
//!
//! Work of each sort is watched until it is done without a kernel that this process had not used
//! before.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cubecl::hash::StableHash;
use cubecl::launched::LaunchedKernels;

/// How often it is told.
const EVERY: Duration = Duration::from_millis(500);
/// How often it is logged, in seconds.
const LOGGED_EVERY: u64 = 5;

/// What a GPU that is not heard of does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// It compiles kernels and chooses among them.
    Preparing {
        /// Kernels that this work has used for the first time.
        new: usize,
        /// Since the work began.
        elapsed: Duration,
    },
    /// The work is done.
    Ready,
}

/// Whom to tell what a GPU does.
#[derive(Clone)]
pub(crate) struct Teller(Arc<dyn Fn(Kernels) + Send + Sync>);

impl Teller {
    pub fn new(told: impl Fn(Kernels) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// Writes to the log.
    pub fn log(device: String) -> Self {
        let last = AtomicU64::new(0);
        Self::new(move |kernels| match kernels {
            Kernels::Ready => last.store(0, Ordering::Relaxed),
            Kernels::Preparing { new, elapsed } => {
                let turn = elapsed.as_secs() / LOGGED_EVERY;
                if last.fetch_max(turn, Ordering::Relaxed) < turn {
                    tracing::info!(
                        "compiling and tuning GPU kernels for {device}: {new} so far, {} s; what is found is kept",
                        elapsed.as_secs()
                    );
                }
            }
        })
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Teller")
    }
}

/// Every kernel that this process has used while it was watched.
static USED: LazyLock<Mutex<HashSet<StableHash>>> = LazyLock::new(Mutex::default);

/// The first uses of a device.
#[derive(Debug, Default)]
pub(crate) struct FirstUse {
    teller: Option<Teller>,
    /// Sorts of work that have all their kernels.
    ready: HashSet<&'static str>,
}

impl FirstUse {
    /// Of a device; nobody is told of one that has its kernels.
    pub fn new(teller: Option<Teller>) -> Self {
        Self {
            teller,
            ready: HashSet::new(),
        }
    }

    /// Does some work of that sort, and meanwhile tells of new kernels.
    pub fn watch<T>(&mut self, sort: &'static str, work: impl FnOnce() -> T) -> T {
        let Some(teller) = self.teller.as_ref().filter(|_| !self.ready.contains(sort)) else {
            return work();
        };
        let mut watched = Watched::new();
        let (done, is_done) = sync_channel::<()>(0);
        let result = thread::scope(|scope| {
            let watched = &mut watched;
            scope.spawn(move || {
                while is_done.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    if watched.look() > 0 {
                        teller.0(Kernels::Preparing {
                            new: watched.new,
                            elapsed: watched.begun.elapsed(),
                        });
                    }
                }
            });
            let result = work();
            drop(done);
            result
        });
        if watched.look() == 0 {
            self.ready.insert(sort);
        }
        teller.0(Kernels::Ready);
        result
    }
}

/// Kernels that are used from now on.
struct Watched {
    begun: Instant,
    launched: LaunchedKernels,
    new: usize,
}

impl Watched {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            launched: LaunchedKernels::new(),
            new: 0,
        }
    }

    /// How many were new so far.
    fn look(&mut self) -> usize {
        // The next collection begins before this one ends: none is lost.
        let launched = std::mem::replace(&mut self.launched, LaunchedKernels::new()).finish();
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        self.new += launched
            .into_iter()
            .filter(|kernel| used.insert(*kernel))
            .count();
        self.new
    }
}

/// Kernels that were used while they were watched.
#[cfg(test)]
pub(crate) fn used_kernels() -> usize {
    USED.lock().unwrap_or_else(PoisonError::into_inner).len()
}
