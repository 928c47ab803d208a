//! Waiting for a condition. Tests wait for what must become true, never for time to pass.

use std::thread;
use std::time::{Duration, Instant};

/// Usual pause between two checks.
pub const POLL: Duration = Duration::from_millis(100);

/// How long to wait, and how often to check.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Fail after this long.
    pub timeout: Duration,
    /// Pause between two checks.
    pub pause: Duration,
}

impl From<Duration> for Patience {
    /// A timeout with the usual pause.
    fn from(timeout: Duration) -> Self {
        Self {
            timeout,
            pause: POLL,
        }
    }
}

/// Waits until `condition` returns true.
///
/// # Panics
/// With `what` and the output of `state`, after the timeout.
pub fn wait_for(
    what: &str,
    patience: impl Into<Patience>,
    mut condition: impl FnMut() -> bool,
    state: impl FnOnce() -> String,
) {
    let Patience { timeout, pause } = patience.into();
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > timeout {
            panic!("not within {} s: {what}\n{}", timeout.as_secs(), state());
        }
        thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_checked_until_it_holds() {
        let mut checks = 0;
        let condition = || {
            checks += 1;
            checks == 3
        };
        wait_for(
            "three checks",
            Duration::from_secs(60),
            condition,
            || unreachable!(),
        );
        assert_eq!(checks, 3);
    }

    #[test]
    #[should_panic(expected = "not within 0 s: rain\nit is dry")]
    fn a_timeout_reports_the_state() {
        wait_for("rain", Duration::ZERO, || false, || "it is dry".to_owned());
    }
}
