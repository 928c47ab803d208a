//! Peers that send gossip which this node has no use for.
//!
//! A message that comes too late, or from an author who has no place in the round, is dropped
//! without a penalty: that happens to honest peers. But honest peers forward only what they had a
//! use for themselves, so a steady stream of useless messages comes from a peer that means it.

use std::collections::HashMap;
use std::time::Instant;

use libp2p::PeerId;

use crate::token_bucket::TokenBucket;

/// Useless messages that a peer may send at once: as many as a round of the largest run has.
const AT_ONCE: f64 = 1024.0;
/// Useless messages that a peer may send per second in the long run.
const PER_SECOND: f64 = 32.0;
/// Peers remembered before those that have been quiet are forgotten.
const REMEMBERED: usize = 1024;

/// The budgets of all peers.
#[derive(Debug, Default)]
pub(crate) struct Noise(HashMap<PeerId, TokenBucket>);

impl Noise {
    /// Counts a useless message. Returns whether the peer has sent too many. Its budget then starts
    /// afresh, so that each such answer stands for [`AT_ONCE`] messages or more.
    pub(crate) fn heard(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&peer) {
            self.0.retain(|_, bucket| !bucket.is_full(now));
        }
        let fresh = TokenBucket::full(AT_ONCE, PER_SECOND, now);
        let bucket = self.0.entry(peer).or_insert_with(|| fresh.clone());
        let too_many = !bucket.take(now);
        if too_many {
            *bucket = fresh;
        }
        too_many
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_noticed_and_stray_messages_are_not() {
        let (flooder, stray, start) = (PeerId::random(), PeerId::random(), Instant::now());
        let mut noise = Noise::default();
        let mut noticed = 0;
        for message in 0..10_000 {
            let now = start + Duration::from_millis(message);
            noticed += u32::from(noise.heard(flooder, now));
            if message % 50 == 0 {
                assert!(!noise.heard(stray, now));
            }
        }
        assert_eq!(noticed, 9);
    }
}
