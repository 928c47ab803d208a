//! Reconnects peers that do not announce the run's topic. Every peer announces it when it connects;
//! one that restarted before this node noticed may not hear of this node's, nor this node of its.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::task::Driver;

/// Time in which a peer must announce the topic.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer is reconnected at most once in this time.
const RECONNECT_EVERY: Duration = Duration::from_secs(60);
/// Limit on reconnected peers remembered. Further ones are left as they are.
const REMEMBERED: usize = 1024;

impl Driver {
    /// Closes the connections to peers without a subscription; the dialler connects them again.
    pub(super) fn reconnect_unsubscribed(&mut self, now: Instant) {
        self.reconnected
            .retain(|_, when| now.saturating_duration_since(*when) < RECONNECT_EVERY);
        for peer in self.unsubscribed(now) {
            if self.reconnected.len() >= REMEMBERED || self.reconnected.contains_key(&peer) {
                continue;
            }
            tracing::debug!("{peer} has not announced the run's topic: reconnecting");
            self.reconnected.insert(peer, now);
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    fn unsubscribed(&self, now: Instant) -> Vec<PeerId> {
        let topic = self.protocols.topic.hash();
        let gossip = &self.swarm.behaviour().gossip;
        let subscribed: HashSet<_> = gossip
            .all_peers()
            .filter(|(_, topics)| topics.contains(&&topic))
            .map(|(peer, _)| *peer)
            .collect();
        let mut unsubscribed = self.peers.admitted_for(ANNOUNCE_TIMEOUT, now);
        unsubscribed.retain(|peer| !subscribed.contains(peer));
        unsubscribed
    }
}
