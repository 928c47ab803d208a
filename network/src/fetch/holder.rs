//! A holder as one fetch sees it: whether it has the blob, and when to ask it again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::watch;

use crate::error::{Cause, RequestError};
use crate::identity::PeerKey;
use crate::reputation::Offence;

/// Failures in a row, or "not here" answers, after which a holder is excluded from a fetch.
const MAX_FAILURES: u32 = 4;
/// "Busy" answers in a row after which a holder is excluded from a fetch.
const MAX_BUSY: u32 = 60;

/// A peer that may have the blob.
pub(super) struct Holder {
    pub(super) peer: PeerKey,
    state: Mutex<HolderState>,
    standing: watch::Sender<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The holder may have the blob.
    Unknown,
    /// The holder has sent the outline or a chunk.
    Proven,
    /// The holder is not asked any further.
    Excluded,
}

#[derive(Debug, Clone, Default)]
struct HolderState {
    failures: u32,
    busy: u32,
    rest_until: Option<Instant>,
    last_failure: Option<Instant>,
    why: Option<String>,
}

impl Holder {
    pub(super) fn new(peer: PeerKey) -> Self {
        Self {
            peer,
            state: Mutex::default(),
            standing: watch::Sender::new(Standing::Unknown),
        }
    }

    fn state(&self) -> MutexGuard<'_, HolderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_excluded(&self) -> bool {
        *self.standing.borrow() == Standing::Excluded
    }

    pub(super) fn is_proven(&self) -> bool {
        *self.standing.borrow() == Standing::Proven
    }

    /// Waits until the holder has proven that it has the blob. Returns `false` once it is excluded.
    pub(super) async fn proven(&self) -> bool {
        let mut standing = self.standing.subscribe();
        let known = standing
            .wait_for(|standing| *standing != Standing::Unknown)
            .await;
        known.is_ok_and(|standing| *standing == Standing::Proven)
    }

    fn set(&self, to: Standing) {
        self.standing.send_if_modified(|standing| {
            let changes = *standing != to && *standing != Standing::Excluded;
            if changes {
                *standing = to;
            }
            changes
        });
    }

    /// Time until the holder may be asked again.
    pub(super) fn rest(&self) -> Duration {
        let until = self.state().rest_until;
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// The last error of the holder.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.state().why.clone().map(|why| Cause {
            peer: self.peer,
            why,
        })
    }

    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        state.failures = 0;
        state.busy = 0;
        state.rest_until = None;
        drop(state);
        self.set(Standing::Proven);
    }

    /// Records a failed request and sets the time of the next one. A network problem fails all
    /// lanes at once, so requests that began before the last failure count with it.
    pub(super) fn failed(&self, error: &RequestError, began: Instant) {
        let mut state = self.state();
        state.why = Some(error.to_string());
        if state.last_failure.is_some_and(|last| began <= last) {
            return;
        }
        let now = Instant::now();
        state.last_failure = Some(now);
        let rest = if *error == RequestError::Busy {
            state.busy += 1;
            pause(
                state.busy.min(5),
                Duration::from_millis(50),
                Duration::from_secs(1),
            )
        } else {
            state.failures += 1;
            pause(
                state.failures,
                Duration::from_millis(250),
                Duration::from_secs(8),
            )
        };
        state.rest_until = Some(now + rest);
        let hopeless = matches!(
            error,
            RequestError::NotAPeer
                | RequestError::Unsupported
                | RequestError::Malformed(_)
                | RequestError::ShutDown
        );
        if hopeless || state.failures >= MAX_FAILURES || state.busy >= MAX_BUSY {
            self.set(Standing::Excluded);
        }
    }

    /// Excludes the holder for wrong bytes.
    pub(super) fn lied(&self, offence: Offence) {
        self.state().why = Some(match offence {
            Offence::BadOutline => "it sent the outline of another blob".into(),
            _ => "it sent a chunk that does not match the outline".into(),
        });
        self.set(Standing::Excluded);
    }
}

/// The pause before attempt `attempt` (from 1): it doubles each time up to `longest`, and a random
/// half of it is cut off at most.
pub(super) fn pause(attempt: u32, first: Duration, longest: Duration) -> Duration {
    let full = first
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(longest);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}
