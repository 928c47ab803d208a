//! Ctrl-C, SIGTERM and SIGHUP; on Windows Ctrl-C, Ctrl-Break, a closed console and a shutdown.
//!
//! A command ends at once: what it had half written is removed, and the exit code is that of a
//! shell's, 128 and the signal's number. A running node and a testnet want to say goodbye; they
//! call [`stop_gracefully`], and only a second signal ends them at once.
//!
//! The kernel drops signals to process 1 of a container unless the process handles them. That is
//! why [`install`] is the first thing that the program does.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Who hears the first signal, if not the process as a whole.
static STOP: Mutex<Option<watch::Sender<bool>>> = Mutex::new(None);

/// Processes that are killed when this one ends at once. On Windows they hear what this one hears:
/// all programs in a console do.
#[cfg(unix)]
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// From now on the first signal makes this true and nothing else.
pub(crate) fn stop_gracefully() -> watch::Receiver<bool> {
    let (sender, stop) = watch::channel(false);
    *STOP.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    stop
}

/// Kills these processes if this one has to end at once. Replaces an earlier list.
#[cfg(unix)]
pub(crate) fn end_with_children(ids: Vec<u32>) {
    *CHILDREN.lock().unwrap_or_else(PoisonError::into_inner) = ids;
}

/// Handles signals on a thread of its own. Where that is impossible, they end the process as the
/// system wants it.
pub(crate) fn install() {
    if let Err(error) = start() {
        crate::terminal::say!("warning: signals end the program without cleaning up: {error}");
    }
}

fn start() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let signals = Signals::new()?;
    drop(entered);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(signals.handle()))?;
    Ok(())
}

/// Handles a signal whose exit code is `code`.
fn received(code: i32) {
    let graceful = STOP.lock().unwrap_or_else(PoisonError::into_inner).take();
    match graceful.filter(|stop| !stop.is_closed()) {
        Some(stop) => {
            stop.send_replace(true);
        }
        None => end(code),
    }
}

fn end(code: i32) -> ! {
    #[cfg(unix)]
    kill_children();
    weal_files::remove_temporaries();
    if std::io::stderr().is_terminal() {
        // The shell's prompt does not follow a progress bar.
        crate::terminal::say!("");
    }
    #[cfg(unix)]
    end_even_if_exit_hangs();
    std::process::exit(code)
}

#[cfg(unix)]
fn kill_children() {
    use rustix::process::{Pid, Signal, kill_process};
    let children = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    for id in children.iter() {
        if let Some(id) = i32::try_from(*id).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

/// Exit handlers of drivers run while other threads still use them, and may wait for ever.
#[cfg(unix)]
fn end_even_if_exit_hangs() {
    use rustix::process::{Signal, getpid, kill_process};
    std::thread::spawn(|| {
        std::thread::sleep(std::time::Duration::from_secs(2));
        let _ = kill_process(getpid(), Signal::KILL);
    });
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: if hang_up_is_ignored() {
                None
            } else {
                Some(signal(SignalKind::hangup())?)
            },
        })
    }

    async fn handle(mut self) {
        loop {
            let hang_up = async {
                match &mut self.hang_up {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            let code = tokio::select! {
                _ = self.interrupt.recv() => 130,
                _ = self.terminate.recv() => 143,
                _ = hang_up => 129,
            };
            received(code);
        }
    }
}

/// Whether the process was started by `nohup`, so that it outlives its terminal.
#[cfg(unix)]
fn hang_up_is_ignored() -> bool {
    // The mask's lowest bit is signal 1, SIGHUP. Without this file, as on macOS, nobody handles the
    // signal: it ends the process, unless `nohup` had it ignored.
    std::fs::read_to_string("/proc/self/status").map_or(true, |status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & 1 == 1)
    })
}

/// Windows ends the process a few seconds after its console is closed or the system shuts down,
/// whatever the process does.
#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    interrupt_hard: tokio::signal::windows::CtrlBreak,
    close: tokio::signal::windows::CtrlClose,
    shut_down: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Self {
            interrupt: ctrl_c()?,
            interrupt_hard: ctrl_break()?,
            close: ctrl_close()?,
            shut_down: ctrl_shutdown()?,
        })
    }

    async fn handle(mut self) {
        loop {
            let code = tokio::select! {
                _ = self.interrupt.recv() => 130,
                _ = self.interrupt_hard.recv() => 130,
                _ = self.close.recv() => 129,
                _ = self.shut_down.recv() => 143,
            };
            received(code);
        }
    }
}
