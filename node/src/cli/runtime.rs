//! Threads, the async runtime, and Ctrl-C.

use tokio::sync::watch;

use crate::error::{Error, Result};

/// Sets the number of threads that training and hashing share; 0 means one per core.
pub(super) fn set_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| Error::internal("cannot start threads").caused_by(error))
}

/// Runs a future on a runtime with one thread per core.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("cannot start the async runtime").caused_by(error))?
        .block_on(future)
}

/// Becomes true on Ctrl-C, and on SIGTERM on Unix. A second Ctrl-C ends the process at once.
pub(super) fn stop_signal() -> Result<watch::Receiver<bool>> {
    let (sender, stop) = watch::channel(false);
    #[cfg(unix)]
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(|error| Error::internal("cannot receive signals").caused_by(error))?;
    tokio::spawn(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        sender.send_replace(true);
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    Ok(stop)
}
