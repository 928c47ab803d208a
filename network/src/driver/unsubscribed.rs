//! Reconnects peers that do not announce the run's topic. Every peer announces it when it connects;
//! one that restarted before this node noticed may not hear of this node's, nor this node of its.
//! The announcement can also go with a connection that is closed because both called each other.

use std::collections::HashSet;
use std::time::Instant;

use libp2p::PeerId;

use super::reconnected::ANNOUNCE_TIMEOUT;
use super::task::Driver;

impl Driver {
    /// Closes the connections to peers without a subscription; the dialler connects them again.
    pub(super) fn reconnect_unsubscribed(&mut self, now: Instant) {
        let subscribed = self.subscribed();
        self.reconnected.forget(&subscribed, now);
        let mut silent = self.peers.admitted_for(ANNOUNCE_TIMEOUT, now);
        silent.retain(|peer| !subscribed.contains(peer));
        for peer in silent {
            if self.reconnected.allows(peer, now) {
                tracing::debug!("{peer} has not announced the run's topic: reconnecting");
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
    }

    fn subscribed(&self) -> HashSet<PeerId> {
        let topic = self.protocols.topic.hash();
        let peers = self.swarm.behaviour().gossip.all_peers();
        let subscribed = peers.filter(|(_, topics)| topics.contains(&&topic));
        subscribed.map(|(peer, _)| *peer).collect()
    }
}
