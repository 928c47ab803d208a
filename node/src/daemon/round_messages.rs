//! Answers to peers that ask for the messages of the running round.
//!
//! Such a request is 12 bytes, and its answer may be megabytes that only the daemon's loop can
//! gather. So the loop is asked by one request at a time, and the others share its answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use weal_proto::{Envelope, Message, Response, RoundNumber};

/// Asks the daemon's loop for the messages of a round.
pub(super) type MessagesRequest = (RoundNumber, oneshot::Sender<Vec<Envelope>>);

/// An answer this young is given again without asking the loop.
const FRESH: Duration = Duration::from_millis(250);
/// While the loop is being asked, an answer of this age is better than none.
const USABLE: Duration = Duration::from_secs(2);

/// The way to the loop, and its last answer.
pub(super) struct RoundMessages {
    requests: mpsc::Sender<MessagesRequest>,
    /// Held by the thread that asks the loop.
    asking: Mutex<()>,
    latest: Mutex<Option<Latest>>,
}

#[derive(Clone)]
struct Latest {
    round: RoundNumber,
    at: Instant,
    /// The encoded response.
    response: Arc<Vec<u8>>,
}

impl RoundMessages {
    /// Answers, and the requests that the loop answers.
    pub(super) fn new() -> (Self, mpsc::Receiver<MessagesRequest>) {
        let (requests, received) = mpsc::channel(1);
        let messages = Self {
            requests,
            asking: Mutex::default(),
            latest: Mutex::default(),
        };
        (messages, received)
    }

    /// The encoded response. May wait for the loop; the network calls this on a thread that may
    /// block.
    pub(super) fn response(&self, round: RoundNumber) -> Option<Vec<u8>> {
        if let Some(response) = self.latest(round, FRESH) {
            return Some(response);
        }
        let _asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return self.latest(round, USABLE),
        };
        let (answer, answered) = oneshot::channel();
        self.requests.try_send((round, answer)).ok()?;
        let response = Response::RoundMessages(answered.blocking_recv().ok()?).encode();
        *self.lock() = Some(Latest {
            round,
            at: Instant::now(),
            response: Arc::new(response.clone()),
        });
        Some(response)
    }

    fn latest(&self, round: RoundNumber, age: Duration) -> Option<Vec<u8>> {
        let latest = self.lock().clone()?;
        let usable = latest.round == round && latest.at.elapsed() < age;
        usable.then(|| latest.response.as_ref().clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Latest>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: RoundNumber = RoundNumber(3);

    #[test]
    fn one_request_at_a_time_reaches_the_loop_and_the_others_share_its_answer() {
        let (messages, mut requests) = RoundMessages::new();
        std::thread::scope(|threads| {
            let first = threads.spawn(|| messages.response(ROUND));
            let (round, answer) = requests.blocking_recv().unwrap();
            assert_eq!(round, ROUND);
            // The loop is busy: nobody else waits for it.
            assert_eq!(messages.response(ROUND), None);
            answer.send(Vec::new()).unwrap();
            let expected = Response::RoundMessages(Vec::new()).encode();
            assert_eq!(first.join().unwrap().as_ref(), Some(&expected));
            assert_eq!(messages.response(ROUND), Some(expected));
        });
        assert!(requests.try_recv().is_err(), "the loop was asked again");
    }
}
