//! Threads and the async runtime.

use std::time::Duration;

use crate::error::{Error, Result};

/// Sets the number of threads that training and hashing share; 0 means one per core.
pub(super) fn set_threads(threads: usize) -> Result<()> {
    check_threads(threads)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| Error::internal("cannot start threads").caused_by(error))
}

/// Refuses a number of threads that no machine has use for.
pub(super) fn check_threads(threads: usize) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = (4 * cores).max(256);
    if threads > most {
        return Err(Error::usage(format!(
            "the number of threads is {threads}; accepted: 1 to {most}, or 0 for one per core"
        ))
        .with_hint("correct --threads, or compute.threads in settings.toml"));
    }
    Ok(())
}

/// Time that work has to end by itself once a command is done.
const WIND_UP: Duration = Duration::from_secs(2);

/// Runs a future on a runtime with one thread per core.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("cannot start the async runtime").caused_by(error))?;
    let done = runtime.block_on(future);
    runtime.shutdown_timeout(WIND_UP);
    done
}
