//! Handles the events of the swarm.

use std::time::Instant;

use libp2p::kad::{GetClosestPeersError, QueryResult};
use libp2p::swarm::{DialError, SwarmEvent};
use libp2p::{Multiaddr, identify, kad, mdns};

use super::task::Driver;
use crate::addresses::is_relayed;
use crate::behaviour::BehaviourEvent;
use crate::dialler::ENOUGH_PEERS;
use crate::event::Event;
use crate::peers::ADDRESSES;
use crate::swarm::Input;
use crate::transport::dial_failure;

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
                if endpoint.is_dialer() {
                    self.observations.dialled(peer_id);
                }
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
                    self.report([failed], &dial_failure(&error));
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!("an incoming connection failed: {error}");
                self.counters.connections_refused.one();
            }
            event => self.on_listener_event(event),
        }
    }

    fn on_listener_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
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
                listener_id,
                addresses,
                reason,
            } => {
                let relay = self.relays.closed(listener_id, Instant::now());
                match (reason, relay) {
                    (Err(error), Some(relay)) => {
                        tracing::debug!("{relay} no longer relays for this node: {error}");
                    }
                    (Err(error), None) => tracing::error!("a listener closed: {error}"),
                    (Ok(()), _) => {}
                }
                for address in addresses {
                    self.tell_of_listening(address, |address| Event::NotListening { address });
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!("a listener failed: {error}")
            }
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Blob(inbound) => {
                let queued = self.blobs.try_send(Input::Inbound(inbound));
                // A stream that is dropped is reset.
                let refused = u64::from(queued.is_err());
                self.counters.blob_streams_refused.add(refused);
            }
            BehaviourEvent::Sync(event) => self.on_exchange(event),
            BehaviourEvent::Sessions(event) => self.on_session(event),
            BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            }) => {
                self.identified(peer_id, connection_id, info);
            }
            BehaviourEvent::Identify(identify::Event::Error { peer_id, error, .. }) => {
                tracing::debug!("identify failed with {peer_id}: {error}");
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
            event => self.on_reachability_event(event),
        }
    }

    fn on_kademlia(&mut self, event: kad::Event) {
        if let kad::Event::RoutingUpdated {
            old_peer: Some(old),
            ..
        } = &event
        {
            self.routes.remove(old);
        }
        match event {
            kad::Event::RoutingUpdated {
                peer,
                is_new_peer: true,
                addresses,
                ..
            } if self.peers.admitted() < ENOUGH_PEERS => {
                let direct = addresses.iter().find(|address| !is_relayed(address));
                let address = direct.unwrap_or_else(|| addresses.first());
                self.consider(peer, address.clone());
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

    fn tell_of_listening(&mut self, address: Multiaddr, event: impl Fn(Multiaddr) -> Event) {
        if let Ok(address) = address.with_p2p(*self.swarm.local_peer_id()) {
            self.tell(event(address));
            self.publish_status();
        }
    }
}
