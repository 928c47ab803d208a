//! When a peer that stays silent about the run's topic is reconnected.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// Time in which a peer must announce the topic.
pub(super) const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that stays silent is reconnected after pauses that double, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Limit on reconnected peers remembered. Further ones are left as they are.
const REMEMBERED: usize = 1024;

/// Peers that were reconnected and have not announced the topic since.
#[derive(Debug, Default)]
pub(super) struct Reconnected(HashMap<PeerId, Silent>);

#[derive(Debug)]
struct Silent {
    since: Instant,
    pause: Duration,
}

impl Reconnected {
    /// Whether to reconnect a silent peer now.
    pub(super) fn allows(&mut self, peer: PeerId, now: Instant) -> bool {
        let pause = match self.0.get(&peer) {
            Some(silent) if now.saturating_duration_since(silent.since) < silent.pause => {
                return false;
            }
            Some(silent) => silent.pause.saturating_mul(2).min(LONGEST_PAUSE),
            None if self.0.len() >= REMEMBERED => return false,
            None => ANNOUNCE_TIMEOUT,
        };
        self.0.insert(peer, Silent { since: now, pause });
        true
    }

    /// These peers have announced the topic. Peers that have been away for long are forgotten, too.
    pub(super) fn forget(&mut self, subscribed: &HashSet<PeerId>, now: Instant) {
        self.0.retain(|peer, silent| {
            let passed = now.saturating_duration_since(silent.since);
            !subscribed.contains(peer) && passed < LONGEST_PAUSE.saturating_mul(2)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_reconnected_soon_and_then_ever_more_rarely_until_it_speaks() {
        let (peer, start) = (PeerId::random(), Instant::now());
        let mut reconnected = Reconnected::default();
        let times = |seconds: std::ops::Range<u64>, reconnected: &mut Reconnected| {
            let mut seconds: Vec<_> = seconds.collect();
            seconds.retain(|s| reconnected.allows(peer, start + Duration::from_secs(*s)));
            seconds
        };
        assert_eq!(times(0..200, &mut reconnected), [0, 3, 9, 21, 45, 93, 153]);
        let now = start + Duration::from_secs(200);
        reconnected.forget(&HashSet::from([peer]), now);
        assert_eq!(times(200..206, &mut reconnected), [200, 203]);
    }

    #[test]
    fn no_more_peers_are_remembered_than_the_limit() {
        let now = Instant::now();
        let mut reconnected = Reconnected::default();
        let allowed = (0..2 * REMEMBERED).filter(|_| reconnected.allows(PeerId::random(), now));
        assert_eq!(allowed.count(), REMEMBERED);
        reconnected.forget(&HashSet::new(), now + 2 * LONGEST_PAUSE);
        assert!(reconnected.allows(PeerId::random(), now));
    }
}
