//! What the swarm tells, and what follows from it.

use std::time::{Duration, Instant};

use libp2p::gossipsub::Message;
use libp2p::kad::{GetClosestPeersError, QueryResult};
use libp2p::swarm::{DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, gossipsub, identify, kad, mdns};

use super::behaviour::BehaviourEvent;
use super::dialling::{ENOUGH_PEERS, Purpose};
use super::driver::{Driver, why};
use super::identity::peer_key;
use super::peers::{ADDRESSES, is_useful};
use super::serve::Exchange;
use super::{Event, GossipId};

/// A stranger is not called again for so long, however often it is announced.
const STRANGER_FOR: Duration = Duration::from_secs(600);
/// Strangers remembered at most.
const STRANGERS: usize = 1024;

impl Driver {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.peers.connected(peer_id, connection_id, &endpoint, now);
                self.dialler.connected(connection_id, peer_id);
                if self.peers.is_admitted(&peer_id) {
                    self.dialler.admitted(peer_id);
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                ..
            } => {
                let address = self.peers.disconnected(peer_id, connection_id);
                if num_established == 0 {
                    self.lost(peer_id, address, now);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                if matches!(error, DialError::LocalPeerId { .. }) {
                    self.dialler.forget(connection_id);
                } else if let Some(failed) = self.dialler.failed(connection_id, now) {
                    self.report([failed], &why(&error));
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!("an incoming connection failed: {error}");
                self.counters.connections_refused.one();
            }
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                self.starting.remove(&listener_id);
                self.tell_of_listening(address, |address| Event::Listening { address });
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.tell_of_listening(address, |address| Event::NotListening { address });
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                if let Err(error) = reason {
                    tracing::error!("a listener closed: {error}");
                }
                for address in addresses {
                    self.tell_of_listening(address, |address| Event::NotListening { address });
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!("a listener reports: {error}")
            }
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Blob(event) => self.on_exchange(Exchange::Blob, event),
            BehaviourEvent::Sync(event) => self.on_exchange(Exchange::Sync, event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.introduced(peer_id, info);
            }
            BehaviourEvent::Identify(identify::Event::Error { peer_id, error, .. }) => {
                tracing::debug!("{peer_id} did not introduce itself: {error}");
            }
            BehaviourEvent::Ping(event) => {
                if let Ok(round_trip) = event.result {
                    self.peers.pinged(event.peer, round_trip);
                }
            }
            BehaviourEvent::Kademlia(event) => self.on_kademlia(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.consider(peer, address);
                }
            }
            _ => {}
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                let Message { data, .. } = message;
                if let Some(from) = peer_key(&propagation_source) {
                    let id = GossipId {
                        message: message_id,
                        source: propagation_source,
                    };
                    self.tell(Event::Gossip {
                        id,
                        from,
                        bytes: data.into(),
                    });
                }
            }
            gossipsub::Event::Subscribed { topic, .. } if topic == self.protocols.topic.hash() => {
                self.publish_kept()
            }
            gossipsub::Event::SlowPeer {
                failed_messages, ..
            } => {
                self.counters
                    .gossip_to_slow_peers
                    .add((failed_messages.priority + failed_messages.non_priority) as u64);
            }
            _ => {}
        }
    }

    fn on_kademlia(&mut self, event: kad::Event) {
        match event {
            kad::Event::RoutingUpdated {
                peer,
                is_new_peer: true,
                addresses,
                ..
            } if self.peers.admitted() < ENOUGH_PEERS => {
                self.consider(peer, addresses.first().clone());
            }
            kad::Event::OutboundQueryProgressed {
                result: QueryResult::GetClosestPeers(result),
                ..
            } => {
                let found = match result {
                    Ok(found) => found.peers,
                    Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                for found in found {
                    for address in found.addrs.into_iter().take(ADDRESSES) {
                        self.swarm.add_peer_address(found.peer_id, address);
                    }
                }
            }
            _ => {}
        }
    }

    /// A peer has said who it is and what it speaks: of this run it is welcome, of another it is
    /// let go.
    fn introduced(&mut self, peer: PeerId, info: identify::Info) {
        if info.protocol_version != self.protocols.identify {
            self.turn_away(peer, shortened(info.protocol_version));
            return;
        }
        let Some(met_at) = self.peers.address(&peer).cloned() else {
            return;
        };
        let names = info.listen_addrs;
        for name in names
            .iter()
            .take(ADDRESSES)
            .filter(|name| is_useful(name, &met_at))
        {
            self.swarm
                .behaviour_mut()
                .kademlia
                .add_address(&peer, name.clone());
        }
        if let Some(address) = self
            .peers
            .admit(peer, shortened(info.agent_version), &names)
        {
            self.dialler.admitted(peer);
            let demerits = self.reputation.demerits(&peer, Instant::now());
            self.swarm
                .behaviour_mut()
                .gossip
                .set_application_score(&peer, -demerits);
            if let Some(key) = peer_key(&peer) {
                self.tell(Event::Connected { peer: key, address });
            }
            self.publish_status();
        }
    }

    /// Lets a peer go that is not of this run.
    pub(super) fn turn_away(&mut self, peer: PeerId, speaks: String) {
        let now = Instant::now();
        self.counters.strangers.one();
        if self.strangers.len() < STRANGERS {
            self.strangers.insert(peer, now);
        }
        let failed = self.dialler.refused(peer, now);
        self.report(failed, "the peer there does not take part in this run");
        let address = self.peers.address(&peer).cloned();
        let _ = self.swarm.disconnect_peer_id(peer);
        if let Some(address) = address {
            self.tell(Event::Stranger { address, speaks });
        }
    }

    /// The last connection to a peer closed. `address`: where a peer of this run might be called
    /// again.
    fn lost(&mut self, peer: PeerId, address: Option<Multiaddr>, now: Instant) {
        let failed = self.dialler.lost(peer, now);
        self.report(
            failed,
            "the peer hung up before it introduced itself: it may be full, or of another run",
        );
        let Some(address) = address else { return };
        self.dialler.call_later(address, now);
        if let Some(peer) = peer_key(&peer) {
            self.tell(Event::Disconnected { peer });
        }
        self.publish_status();
    }

    /// Somebody says that a peer is there: call it, unless it is here or known to be a stranger.
    fn consider(&mut self, peer: PeerId, address: Multiaddr) {
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

    pub(super) fn forget_old(&mut self, now: Instant) {
        self.strangers
            .retain(|_, seen| now.saturating_duration_since(*seen) < STRANGER_FOR);
    }

    fn tell_of_listening(&mut self, address: Multiaddr, event: impl Fn(Multiaddr) -> Event) {
        if let Ok(address) = address.with_p2p(*self.swarm.local_peer_id()) {
            self.tell(event(address));
            self.publish_status();
        }
    }
}

/// A peer's own words, no longer than is worth showing, and on one line.
fn shortened(words: String) -> String {
    words
        .chars()
        .filter(|c| !c.is_control())
        .take(128)
        .collect()
}
