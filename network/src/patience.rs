//! How long a node waits for a peer that is slow to send or to read.
//!
//! A stream on which no byte moves for [`STALL`] is reset. That alone would let a peer hold a
//! stream for hours with a byte now and then, so each message also has a budget: [`GRACE`], and one
//! second for each [`LEAST_RATE`] bytes of it. Only waiting for the peer counts, not this node's
//! own rate limit.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use tokio::time::timeout;

/// Timeout after which a stream is reset if no byte moves.
pub(crate) const STALL: Duration = Duration::from_secs(15);
/// What every message may take, however short it is.
const GRACE: Duration = STALL;
/// The least average rate after the grace time, in bytes per second. An uplink of 1.6 Mbit/s that
/// serves as many requests at once as a node accepts is still fast enough.
const LEAST_RATE: u64 = 4 * 1024;

/// The time left for one message.
#[derive(Debug)]
pub(crate) struct Patience {
    left: Duration,
    bytes: usize,
}

impl Patience {
    /// The budget of a message of this length.
    pub(crate) fn for_bytes(bytes: usize) -> Self {
        Self {
            left: GRACE + Duration::from_millis(bytes as u64 * 1000 / LEAST_RATE),
            bytes,
        }
    }

    /// Waits for the peer.
    ///
    /// # Errors
    /// If nothing happens for [`STALL`], if the budget is used up, or if the operation fails.
    pub(crate) async fn wait<T>(
        &mut self,
        operation: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let began = Instant::now();
        let outcome = timeout(self.longest_wait(), operation).await;
        self.spend(began.elapsed());
        outcome.map_err(|_| self.used_up())?
    }

    /// What is left of the budget.
    pub(crate) fn left(&self) -> Duration {
        self.left
    }

    fn longest_wait(&self) -> Duration {
        STALL.min(self.left)
    }

    fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }

    fn used_up(&self) -> io::Error {
        let why = if self.left.is_zero() {
            let (bytes, rate) = (self.bytes, LEAST_RATE);
            format!("a message of {bytes} bytes moved at less than {rate} bytes per second")
        } else {
            format!("no byte moved for {} s", STALL.as_secs())
        };
        io::Error::new(io::ErrorKind::TimedOut, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    /// How many bytes arrive, one after each pause, before the peer is cut off; and the seconds
    /// until then.
    fn drip(bytes: usize, pause: u64) -> (usize, u64) {
        let mut patience = Patience::for_bytes(bytes);
        let (pause, mut arrived) = (Duration::from_secs(pause), 0);
        let mut took = Duration::ZERO;
        while pause < patience.longest_wait() {
            patience.spend(pause);
            took += pause;
            arrived += 1;
        }
        (arrived, (took + patience.longest_wait()).as_secs())
    }

    #[test]
    fn a_peer_that_drips_is_cut_off_when_its_budget_is_used_up() {
        // An outline of 40 KiB has 25 s, and a chunk of 1 MiB has 271 s.
        assert_eq!(drip(40 * KIB, 14), (1, 25));
        assert_eq!(drip(1024 * KIB, 14), (19, 271));
    }

    #[test]
    fn a_peer_that_stops_is_cut_off_earlier() {
        assert_eq!(drip(1024 * KIB, 1000), (0, 15));
    }

    #[tokio::test]
    async fn an_operation_that_fails_keeps_its_error() {
        let failed = std::future::ready(Err::<(), _>(io::ErrorKind::BrokenPipe.into()));
        let error = Patience::for_bytes(1).wait(failed).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
