//! Peers that send far more than anybody asked for.

use std::collections::HashMap;
use std::time::Instant;

use libp2p::PeerId;

use crate::limits::{REMEMBERED, Rate, UNASKED_BYTES};
use crate::token_bucket::TokenBucket;

/// The bytes that each connected peer has sent unasked, and what it may still send.
#[derive(Debug)]
pub(crate) struct Floods {
    rate: Rate,
    peers: HashMap<PeerId, (u64, TokenBucket)>,
}

impl Floods {
    pub(crate) fn new() -> Self {
        Self {
            rate: UNASKED_BYTES,
            peers: HashMap::new(),
        }
    }

    /// Takes what each connected peer has sent until now. Returns those that sent too much. Their
    /// budgets then start afresh, so that each such answer stands for as many bytes.
    pub(crate) fn notice(&mut self, connected: Vec<(PeerId, u64)>, now: Instant) -> Vec<PeerId> {
        let mut too_many = Vec::new();
        let mut before = std::mem::take(&mut self.peers);
        let Rate {
            at_once,
            per_second,
        } = self.rate;
        let fresh = TokenBucket::full(at_once, per_second, now);
        for (peer, sent) in connected {
            let (seen, mut bucket) = before.remove(&peer).unwrap_or_else(|| (0, fresh.clone()));
            // A peer that connects again is counted from zero.
            let bytes = sent.checked_sub(seen).unwrap_or(sent);
            bucket.spend(bytes as f64, now);
            if !bucket.has_one(now) {
                too_many.push(peer);
                bucket = fresh.clone();
            }
            self.peers.insert(peer, (sent, bucket));
        }
        // Going away and coming back gives nobody a fresh budget.
        let gone = before
            .into_iter()
            .filter(|(_, (_, bucket))| !bucket.is_full(now));
        let room = REMEMBERED.saturating_sub(self.peers.len());
        self.peers.extend(
            gone.take(room)
                .map(|(peer, (_, bucket))| (peer, (0, bucket))),
        );
        too_many
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn only_a_peer_that_floods_is_noticed() {
        let (mut floods, start) = (Floods::new(), Instant::now());
        let (flooder, honest) = (PeerId::random(), PeerId::random());
        let mut noticed = Vec::new();
        for second in 1..=60 {
            let now = start + Duration::from_secs(second);
            // 10 MiB/s, and a gigabyte per hour.
            let sent = vec![(flooder, second * 10 * MIB), (honest, second * MIB / 4)];
            noticed.extend(floods.notice(sent, now));
        }
        assert!(noticed.len() >= 6, "{}", noticed.len());
        assert!(noticed.iter().all(|peer| *peer == flooder));
    }

    #[test]
    fn a_peer_that_connects_again_has_what_was_left() {
        let (mut floods, now) = (Floods::new(), Instant::now());
        let peer = PeerId::random();
        assert!(floods.notice(vec![(peer, 50 * MIB)], now).is_empty());
        assert!(floods.notice(vec![(peer, 5 * MIB)], now).is_empty());
        assert!(floods.notice(Vec::new(), now).is_empty());
        assert_eq!(floods.notice(vec![(peer, 30 * MIB)], now), [peer]);
        assert!(floods.notice(Vec::new(), now).is_empty());
        assert!(floods.peers.is_empty());
    }
}
