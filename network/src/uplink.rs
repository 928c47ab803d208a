//! Whether members use the uplink: strangers then get less of it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Time for which the uplink counts as used after a piece to a member.
const USED_FOR: Duration = Duration::from_secs(1);

/// When a piece was last on its way to a member.
#[derive(Debug, Default)]
pub(crate) struct Uplink(Mutex<Option<Instant>>);

impl Uplink {
    /// A piece is on its way to a member now.
    pub(crate) fn serves_member(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether members use the uplink.
    pub(crate) fn is_used(&self, now: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| now.saturating_duration_since(last) < USED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uplink_is_used_while_members_are_served_and_a_moment_longer() {
        let (uplink, start) = (Uplink::default(), Instant::now());
        assert!(!uplink.is_used(start));
        uplink.serves_member(start);
        assert!(uplink.is_used(start + USED_FOR / 2));
        assert!(!uplink.is_used(start + USED_FOR));
    }
}
