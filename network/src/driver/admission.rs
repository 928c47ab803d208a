//! Admits peers of this run, turns strangers away, and redials lost peers.

use std::time::{Duration, Instant};

use libp2p::kad::store::MemoryStore;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, identify, kad, relay};

use super::task::Driver;
use crate::addresses::{is_useful, leads_through, without_peer};
use crate::dialler::Purpose;
use crate::event::Event;
use crate::identity::peer_key;
use crate::peers::ADDRESSES;
use crate::quota::User;
use crate::routes::Room;

/// Time for which a stranger is not dialled, however often it is announced.
const STRANGER_FOR: Duration = Duration::from_secs(600);
/// Limit on strangers remembered.
const STRANGERS: usize = 1024;
/// Limit on the characters shown of a text that a peer announces.
const SHOWN_CHARS: usize = 128;

impl Driver {
    /// Identify has told which run a peer belongs to. Admits a peer of this run, and turns away
    /// others.
    pub(super) fn identified(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        info: identify::Info,
    ) {
        if info.protocol_version != self.protocols.identify {
            self.turn_away(peer, shortened(&info.protocol_version));
            return;
        }
        let Some(met_at) = self.peers.address(&peer).cloned() else {
            return;
        };
        let user = self.user(peer);
        // The first time it is what the connection is for.
        if self.peers.is_admitted(&peer) && !self.statements.take(&user, Instant::now()) {
            self.counters.statements_too_many.one();
            return;
        }
        let is_relay = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
        self.peers.note_relay(&peer, connection, is_relay);
        self.observed(peer, connection, &info.observed_addr);
        let mut announced = info.listen_addrs;
        let useful = announced.iter().take(ADDRESSES);
        let useful = useful.filter(|address| is_useful(address, &met_at));
        let useful: Vec<_> = useful.cloned().collect();
        self.route(&user, &useful);
        // Others reach the peer through this node; this node itself does not.
        let local = *self.swarm.local_peer_id();
        announced.retain(|address| !leads_through(address, &local));
        if let Some(address) = self
            .peers
            .admit(peer, shortened(&info.agent_version), &announced)
        {
            self.dialler.admitted(peer);
            self.observations.met_peer(Instant::now());
            let demerits = self.reputation.demerits(&peer, Instant::now());
            self.set_gossip_score(&peer, -demerits);
            if let Some(key) = peer_key(&peer) {
                self.tell(Event::Connected { peer: key, address });
            }
            self.tell_session(&peer);
            self.publish_status();
        }
    }

    /// Tells Kademlia where a peer is, unless its address block has enough places in the table.
    fn route(&mut self, user: &User, addresses: &[Multiaddr]) {
        let (peer, origin) = (user.peer, user.origin);
        let is_member = peer_key(&peer).is_some_and(|key| self.members.is_member(&key));
        let kademlia = &mut self.swarm.behaviour_mut().kademlia;
        if addresses.is_empty() {
            return;
        }
        if is_member {
            self.routes.remove(&peer);
        } else {
            let is_connected = |peer: &PeerId| self.peers.address(peer).is_some();
            match self.routes.room(&peer, origin, is_connected) {
                Room::Free => {}
                Room::InPlaceOf(gone) => {
                    self.routes.remove(&gone);
                    kademlia.remove_peer(&gone);
                }
                Room::None => return,
            }
            self.routes.add(peer, origin);
        }
        for address in addresses {
            kademlia.add_address(&peer, address.clone());
        }
        for old in surplus(kademlia, peer, addresses) {
            kademlia.remove_address(&peer, &old);
        }
    }

    /// Disconnects a peer that does not belong to this run.
    pub(super) fn turn_away(&mut self, peer: PeerId, speaks: String) {
        let now = Instant::now();
        self.counters.strangers.one();
        if self.strangers.len() < STRANGERS {
            self.strangers.insert(peer, now);
        }
        let failed = self.dialler.refused(peer, now);
        self.report(
            failed,
            "the peer at this address does not take part in this run",
        );
        let address = self.peers.address(&peer).cloned();
        let _ = self.swarm.disconnect_peer_id(peer);
        if let Some(address) = address {
            self.tell(Event::Stranger { address, speaks });
        }
    }

    /// The last connection to a peer closed. `address` is where a peer of this run can be
    /// redialled.
    pub(super) fn lost(&mut self, peer: PeerId, address: Option<Multiaddr>, now: Instant) {
        let failed = self.dialler.lost(peer, now);
        self.report(
            failed,
            "the peer disconnected before it announced its run: it is full, or of another run",
        );
        let Some(address) = address else { return };
        self.dialler.redial(address, now);
        if let Some(peer) = peer_key(&peer) {
            self.tell(Event::Disconnected { peer });
        }
        self.publish_status();
    }

    /// Dials a peer that was announced, unless it is connected or known to be a stranger.
    pub(super) fn consider(&mut self, peer: PeerId, address: Multiaddr) {
        if self.swarm.is_connected(&peer)
            || self.strangers.contains_key(&peer)
            || peer == *self.swarm.local_peer_id()
        {
            return;
        }
        if let Ok(address) = address.with_p2p(peer) {
            self.dialler.add(address, Purpose::Known, Instant::now());
        }
    }

    pub(super) fn forget_strangers(&mut self, now: Instant) {
        self.strangers
            .retain(|_, seen| now.saturating_duration_since(*seen) < STRANGER_FOR);
    }
}

/// Addresses of a peer in Kademlia's table that it no longer announces, if there are many: a peer
/// must not fill the memory with ever new ones.
fn surplus(
    kademlia: &mut kad::Behaviour<MemoryStore>,
    peer: PeerId,
    announced: &[Multiaddr],
) -> Vec<Multiaddr> {
    let Some(bucket) = kademlia.kbucket(peer) else {
        return Vec::new();
    };
    let mut entries = bucket.iter();
    let entry = entries.find(|entry| entry.node.key.preimage() == &peer);
    let Some(entry) = entry.filter(|entry| entry.node.value.len() > 2 * ADDRESSES) else {
        return Vec::new();
    };
    let announced: Vec<_> = announced.iter().map(without_peer).collect();
    let known = entry.node.value.iter();
    known
        .filter(|known| !announced.contains(&without_peer(known)))
        .cloned()
        .collect()
}

/// A text that a peer announces, cut to one short line.
fn shortened(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_a_peer_no_longer_announces_do_not_pile_up() {
        let (local, peer) = (PeerId::random(), PeerId::random());
        let mut kademlia = kad::Behaviour::new(local, MemoryStore::new(local));
        let address = |port: usize| format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap();
        for round in 0..10 {
            let announced: Vec<Multiaddr> = (0..ADDRESSES)
                .map(|number| address(1 + round * ADDRESSES + number))
                .collect();
            for one in &announced {
                kademlia.add_address(&peer, one.clone());
            }
            for old in surplus(&mut kademlia, peer, &announced) {
                kademlia.remove_address(&peer, &old);
            }
            let bucket = kademlia.kbucket(peer).unwrap();
            let known = bucket.iter().next().unwrap().node.value.len();
            assert!(known <= 2 * ADDRESSES, "{known}");
            let newest = announced.last().unwrap().clone().with_p2p(peer).unwrap();
            let bucket = kademlia.kbucket(peer).unwrap();
            let entry = bucket.iter().next().unwrap();
            assert!(entry.node.value.iter().any(|known| *known == newest));
        }
    }
}
